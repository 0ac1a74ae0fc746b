# Ends process trees. Arguments: grace in steps of 50 ms, then the process ids of login shells.
# Prints for each "NONCE pid left detached...": processes that still run, as a number, and the ids of
# those that left its session by themselves.
# POSIX sh, from stdin, so that no login shell has to quote it. Needs /proc or ps.
nonce=$1 grace=$2
shift 2
targets=$*

# S: "pid:parent:group:session" of every process that is no zombie.
snap() {
    S=
    if [ -r /proc/self/stat ]; then
        for d in /proc/[0-9]*; do
            { read -r l <"$d/stat"; } 2>/dev/null || continue
            l=${l##*) }
            set -- $l
            case $1 in Z | X) continue ;; esac
            S="$S ${d#/proc/}:$2:$3:$4"
        done
    else
        S=$(ps -A -o pid= -o ppid= -o pgid= -o stat= | while read -r p pp g st; do
            case $st in Z*) ;; *) printf ' %s:%s:%s:0' "$p" "$pp" "$g" ;; esac
        done)
    fi
}

# V: what is to be ended for the shell $1; O: those of V outside of its process group; D: its descendants
# that left its session. M: group or walk.
# sshd makes a command the leader of a session of its own. Elsewhere, as under Dropbear, group and
# session are those of the whole connection, so the tree is walked by parents.
scan() {
    V= O= D= M=group
    for e in $S; do
        case $e in
        $1:*:$1:*) ;;
        $1:*) M=walk ;;
        esac
    done
    K=" $1 "
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
            case $K in *" $p "*) if [ $M = group ]; then D="$D $p"; else V="$V $p"; fi ;; esac
        fi
    done
}

# Stops a walked tree until it has stopped growing, so that no child escapes between look and signal.
freeze() {
    stopped=" "
    more=1
    while [ -n "$more" ]; do
        more=
        snap
        scan "$1"
        for p in $V; do
            case $stopped in *" $p "*) ;; *)
                kill -s STOP "$p" 2>/dev/null && more=1
                stopped="$stopped$p "
                ;;
            esac
        done
    done
}

end() { # signal
    for t in $targets; do
        scan "$t"
        if [ $M = walk ]; then
            freeze "$t"
            for p in $V; do kill -s "$1" "$p" 2>/dev/null; done
            for p in $V; do kill -s CONT "$p" 2>/dev/null; done
        else
            # Once each: to many programs a second TERM means "at once".
            kill -s "$1" -- "-$t" 2>/dev/null
            for p in $O; do kill -s "$1" "$p" 2>/dev/null; done
        fi
    done
}

pause() { sleep 0.05 2>/dev/null || sleep 1; }

gone() { # steps
    i=0
    while :; do
        snap
        left=
        for t in $targets; do
            scan "$t"
            left="$left$V"
        done
        [ -z "$left" ] && return 0
        i=$((i + 1))
        [ $i -gt "$1" ] && return 1
        pause
    done
}

snap
all=
for t in $targets; do
    scan "$t"
    all="$all $t:$(echo $D | tr ' ' ,)"
done
end TERM
gone "$grace" || {
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
