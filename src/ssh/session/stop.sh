# Ends process trees. Arguments: grace in steps of 50 ms, then the process ids of login shells.
# Prints for each "NONCE pid left detached...": processes that still run, as a number, and the ids of
# those that left its session by themselves.
# POSIX sh, from stdin, so that no login shell has to quote it. Needs /proc or ps.
nonce=$1 grace=$2
shift 2
targets=$* seen=
blank=' ' newline='
'
IFS=$blank

# S: "pid:parent:group:session" of every process that is no zombie and has to do with a target or with what
# was remembered of it: on a host with many processes the rest is looked at once and not again per target.
snap() {
    A= S= K=" $targets $seen "
    if [ -r /proc/self/stat ]; then
        # The shell's own read takes a system call per byte.
        IFS=$newline
        for l in $(cat /proc/[0-9]*/stat 2>/dev/null); do
            p=${l%% *}
            # The name before it may hold anything; looking for its end from behind is slow.
            e=${l#*) }
            case $e in [A-Za-z]' '[0-9]*) l=$e ;; *) l=${l##*) } ;; esac
            case $l in [ZX]*) continue ;; esac
            l=${l#* } e=$p:${l%% *}
            l=${l#* } e=$e:${l%% *}
            l=${l#* } A="$A $e:${l%% *}"
        done
        IFS=$blank
    else
        A=$(ps -A -o pid= -o ppid= -o pgid= -o stat= | while read -r p pp g st; do
            case $st in Z*) ;; *) printf ' %s:%s:%s:0' "$p" "$pp" "$g" ;; esac
        done)
    fi
    more=1
    while [ -n "$more" ]; do
        more= rest=
        for e in $A; do
            p=${e%%:*}
            l=${e#*:}
            case $K in
            *" $p "* | *" ${l%%:*} "*) S="$S $e" K="$K$p " more=1 ;;
            *)
                l=${l#*:}
                case " $targets " in
                *" ${l%%:*} "* | *" ${l#*:} "*) S="$S $e" K="$K$p " more=1 ;;
                *) rest="$rest $e" ;;
                esac
                ;;
            esac
        done
        A=$rest
    done
}

# V: what is to be ended for the shell $1; O: those of V outside of its process group; D: its descendants
# that left its session. M: group or walk.
# sshd makes a command the leader of a session of its own. Elsewhere, as under Dropbear, group and
# session are those of the whole connection, so the tree is walked by parents. What was found that way is
# remembered (H, with the shell's session N): when the shell has ended, nothing else leads to its children.
scan() {
    eval "H=\${H$1-} N=\${N$1-}"
    V= O= D= M=group
    [ -n "$N" ] && M=walk
    for e in $S; do
        case $e in
        $1:*:$1:*) ;;
        $1:*) M=walk N=${e##*:} ;;
        esac
    done
    K=" $1 $H "
    more=1
    while [ -n "$more" ]; do
        more=
        for e in $S; do
            p=${e%%:*}
            case $K in *" $p "*) continue ;; esac
            e=${e#*:}
            case $K in *" ${e%%:*} "*) K="$K$p " more=1 ;; esac
        done
    done
    for e in $S; do
        p=${e%%:*}
        e=${e#*:*:}
        if [ $M = group ] && { [ "${e%%:*}" = "$1" ] || [ "${e#*:}" = "$1" ]; }; then
            V="$V $p"
            [ "${e%%:*}" = "$1" ] || O="$O $p"
        else
            case $K in *" $p "*) if [ "$M ${e#*:}" = "walk $N" ]; then V="$V $p"; else D="$D $p"; fi ;; esac
        fi
    done
    if [ $M = walk ]; then
        eval "H$1=\$V N$1=\$N"
        seen="$seen$V"
    fi
}

end() { # signal
    walked= stopped=" "
    for t in $targets; do
        scan "$t"
        if [ $M = walk ]; then
            walked="$walked $t"
        else
            [ -n "$V" ] || continue
            # Once each: to many programs a second TERM means "at once".
            kill -s "$1" -- "-$t" 2>/dev/null
            for p in $O; do kill -s "$1" "$p" 2>/dev/null; done
        fi
    done
    # Walked trees are stopped until they have stopped growing, so that no child escapes between look and signal.
    more=$walked
    while [ -n "$more" ]; do
        more=
        snap
        for t in $walked; do
            scan "$t"
            for p in $V; do
                case $stopped in *" $p "*) ;; *)
                    kill -s STOP "$p" 2>/dev/null && more=1
                    stopped="$stopped$p "
                    ;;
                esac
            done
        done
    done
    for p in $stopped; do kill -s "$1" "$p" 2>/dev/null; done
    for p in $stopped; do kill -s CONT "$p" 2>/dev/null; done
}

pause() { sleep 0.05 2>/dev/null || sleep 1; }

# W: what has still to end.
look() {
    snap
    W=
    for t in $targets; do
        scan "$t"
        W="$W$V"
    done
}

gone() { # steps
    look
    i=0
    while [ -n "$W" ]; do
        i=$((i + 1))
        [ $i -gt "$1" ] && return 1
        pause
        look
    done
}

snap
all=
for t in $targets; do
    scan "$t"
    all="$all $t:$(echo $D | tr ' ' ,)"
    seen="$seen$D"
done
end TERM
gone "$grace" || {
    snap
    end KILL
    gone 10
}
snap
for a in $all; do
    t=${a%%:*}
    scan "$t"
    set -- $V
    left=$#
    detached=
    for d in $(echo "${a#*:}" | tr , ' '); do
        case $S in *" $d:"*) detached="$detached $d" ;; esac
    done
    echo "$nonce $t $left$detached"
done
