"""Rows of calls: their time, their CPU, many at once, and what stays quick while output floods in."""

import statistics
import time

import machine
import openssh
from host import Skip
from measure import Line, absolute, alternate, percentile, skipped, timed, versus

STDIO, HTTP, MASTER, ASYNCSSH, RUSSH, NPM = "stdio", "HTTP", "ssh -S", "asyncssh", "bare russh", "npm ssh-mcp"


def execute(bench):
    """`true` on an open session, everyone in turn."""
    rounds, warm_up = bench.scale((150, 20), (1500, 50))
    started, lines, contestants = [], [], {}
    # The peers first: installing one takes a while, and nobody is to wait idle meanwhile.
    for name, make in ((RUSSH, bench.bare_russh), (ASYNCSSH, bench.asyncssh)):
        try:
            meter = make()
        except Skip as why:
            lines.append(skipped("execute", f"`ssh_execute true` beside {name}", str(why)))
            continue
        started.append(meter)
        contestants[name] = lambda meter=meter: meter.order("execute")
    stdio, http, master = bench.stdio(), bench.http(), openssh.Master(bench.host)
    started += [stdio, http, master]
    sessions = {server: server.connect(bench.host) for server in (stdio, http)}
    contestants |= {
        STDIO: lambda: timed(lambda: stdio.execute(sessions[stdio])),
        HTTP: lambda: timed(lambda: http.execute(sessions[http])),
        MASTER: lambda: timed(master.execute),
    }
    try:
        values = alternate(contestants, rounds, warm_up)
        lines = [*times(values), *lines, *beside_npm(bench, stdio, sessions[stdio])]
    finally:
        for one in started:
            one.stop()
    return lines


def times(values):
    values = {name: [1000 * value for value in row] for name, row in values.items()}
    for ours in (STDIO, HTTP):
        work = f"`ssh_execute true` over {ours}"
        p50, p99 = percentile(values[ours], 50), percentile(values[ours], 99)
        yield summary(versus("execute", f"{work}, p50", values, ours, MASTER, unit="ms", at_most=0.4))
        if ASYNCSSH in values:
            yield summary(versus("execute", f"{work}, p50", values, ours, ASYNCSSH, unit="ms", at_most=0.85))
        if RUSSH in values:
            bare = percentile(values[RUSSH], 50)
            yield absolute("execute", f"{work}, p50, less bare russh's {bare:.2f} ms", p50 - bare, "ms", at_most=0.5)
        theirs = "; ".join(f"{name} {percentile(row, 99):.1f}" for name, row in values.items() if name not in (STDIO, HTTP))
        yield Line("execute", f"{work}, p99", p99, "ms", "its p50", p50, p99 / p50, "at most 2x", p99 <= 2 * p50, note=f"p99 of {theirs}")


def summary(line):
    """Thousands of rounds say less than their percentiles."""
    line.rounds = {name: {f"p{percent}": percentile(row, percent) for percent in (1, 25, 50, 75, 90, 99)} for name, row in line.rounds.items()}
    return line


def beside_npm(bench, stdio, session):
    work = "`ssh_execute true` over stdio, p50"
    try:
        npm = bench.npm_server()
    except Skip as why:
        return [skipped("execute", f"{work}, beside {NPM}", str(why))]
    try:
        values = alternate({STDIO: lambda: timed(lambda: stdio.execute(session)), NPM: lambda: timed(npm.execute)},
                           *bench.scale((15, 3), (60, 5)))
    finally:
        npm.stop()
    return [versus("execute", work, {name: [1000 * value for value in row] for name, row in values.items()}, STDIO, NPM, unit="ms")]


def cpu(bench):
    """User and system time of the server alone, over many calls."""
    calls, rounds = bench.scale((300, 3), (1000, 3))
    servers = {STDIO: bench.stdio(), HTTP: bench.http()}
    sessions = {name: server.connect(bench.host) for name, server in servers.items()}
    try:
        bare = bench.bare_russh()
    except Skip:
        bare = None

    def turn(pid, work):
        before = machine.cpu_seconds(pid)
        for _ in range(calls):
            work()
        return 1000 * (machine.cpu_seconds(pid) - before) / calls

    contestants = {name: lambda name=name: turn(servers[name].pid, lambda: servers[name].execute(sessions[name])) for name in servers}
    if bare:
        contestants[RUSSH] = lambda: turn(bare.pid, lambda: bare.order("execute"))
    try:
        values = alternate(contestants, rounds)
    finally:
        for one in [*servers.values(), *([bare] if bare else [])]:
            one.stop()
    note = f"bare russh {statistics.median(values[RUSSH]):.2f}" if bare else ""
    return [absolute("cpu", f"CPU of `ssh-mcp` per `ssh_execute true` over {name}", statistics.median(values[name]), "ms", at_most=0.3,
                     note=note, rounds=values) for name in servers]


def connect(bench):
    """Connect and authenticate; what closes the session is not measured."""
    rounds, warm_up = bench.scale((12, 2), (60, 3))
    server = bench.stdio()
    opened = []

    def ours():
        opened[:] = [server.connect(bench.host)]

    def closed(work):
        took = timed(work)
        server.call("ssh_disconnect", session_id=opened[0])
        return 1000 * took

    contestants = {
        STDIO: lambda: closed(ours),
        "with `true`": lambda: closed(lambda: (ours(), server.execute(opened[0]))),
        "ssh host true": lambda: 1000 * timed(lambda: openssh.run(bench.host)),
    }
    started, lines = [server], []
    for name, make in ((ASYNCSSH, bench.asyncssh), (RUSSH, bench.bare_russh)):
        try:
            meter = make()
            started.append(meter)
            contestants[name] = lambda meter=meter: 1000 * meter.order("connect")
        except Skip as why:
            lines.append(skipped("connect", f"`ssh_connect` beside {name}", str(why)))
    try:
        values = alternate(contestants, rounds, warm_up)
    finally:
        for one in started:
            one.stop()
    work = "`ssh_connect`: connect and authenticate"
    result = [versus("connect", work, values, STDIO, "ssh host true", unit="ms", at_most=0.5)]
    if ASYNCSSH in values:
        result.append(versus("connect", work, values, STDIO, ASYNCSSH, unit="ms", at_most=1.2))
    if RUSSH in values:
        result.append(versus("connect", work, values, STDIO, RUSSH, unit="ms"))
    return [*result, versus("connect", "`ssh_connect` and `ssh_execute true`", values, "with `true`", "ssh host true", unit="ms"), *lines]


def callers(bench):
    """Many callers at once, against one; and bare russh with as many, to show where the limit is."""
    count, rounds = bench.scale((300, 3), (1500, 3))
    server = bench.stdio()
    sessions = [server.connect(bench.host) for _ in range(16)]
    try:
        bare = bench.bare_russh()
    except Skip:
        bare = None
    busy = {}

    def ours(many, over):
        def work():
            server.pipeline(count, many, lambda n: {"session_id": sessions[n % over], "command": "true"})

        before, (all_before, idle_before) = machine.cpu_seconds(server.pid), machine.machine_cpu_seconds()
        driver = time.process_time()
        took = timed(work)
        all_after, idle_after = machine.machine_cpu_seconds()
        used, idle = all_after - all_before, idle_after - idle_before
        busy[many] = (used / (used + idle), (machine.cpu_seconds(server.pid) - before) / used, (time.process_time() - driver) / used)
        return took

    contestants = {"one caller": lambda: ours(1, 1), "8 callers": lambda: ours(8, 1), "64 callers": lambda: ours(64, 16)}
    if bare:
        contestants |= {"bare 1": lambda: bare.order(f"parallel 1 1 {count}"), "bare 8": lambda: bare.order(f"parallel 1 8 {count}"),
                        "bare 64": lambda: bare.order(f"parallel 16 64 {count}")}
    try:
        values = alternate(contestants, rounds)
    finally:
        for one in [server, *([bare] if bare else [])]:
            one.stop()
    lines = []
    for many, work in ((8, "8 callers on one session"), (64, "64 callers on 16 sessions")):
        line = versus("callers", work, values, f"{many} callers", "one caller", unit="calls/s", at_least=3.0, per=count)
        all_busy, our_share, drivers = busy[many]
        line.note = f"the machine is busy to {all_busy:.0%}: {our_share:.0%} of that is ssh-mcp, {drivers:.0%} whoever calls it"
        lines.append(line)
        if bare:
            beside = versus("callers", f"{work}, beside bare russh", values, f"{many} callers", f"bare {many}", unit="calls/s", per=count)
            beside.against = RUSSH
            lines.append(beside)
            if not line.met:
                # Busy throughout, mostly not with us, and no faster without us: then it is the sshd.
                line.met = all_busy >= 0.9 and our_share <= 0.25 and beside.ratio >= 0.85
                line.goal += ", or the sshd is the limit"
    return lines


def ping(bench):
    """`ping` while 64 commands write as fast as they can."""
    count = bench.scale(100, 500)
    # The flood is endless: what it may write to disk is kept small.
    server = bench.stdio(SSH_SPILL_TOTAL="1024")
    try:
        quiet = [1000 * timed(lambda: server.request("ping", {})) for _ in range(count)]
        for _ in range(8):
            session = server.connect(bench.host)
            for _ in range(8):
                server.call("ssh_execute_async", session_id=session, command="exec yes")
        time.sleep(1)
        loud = []
        for _ in range(count):
            loud.append(1000 * timed(lambda: server.request("ping", {})))
            time.sleep(0.01)
    finally:
        server.stop()
    note = f"p50 {percentile(loud, 50):.2f} ms, largest {max(loud):.1f} ms; with nothing else p99 {percentile(quiet, 99):.2f} ms"
    return [absolute("ping", "`ping` while 64 commands flood output, p99", percentile(loud, 99), "ms", at_most=20, note=note)]


def sleeps(bench):
    """Parallel `sleep 1` where the sshd takes 10 sessions on a connection."""
    lines = []
    for count, goal in ((30, 1.5), (100, 3.0)):
        took = []
        for _ in range(bench.scale(1, 5)):
            server = bench.stdio()
            session = server.connect(bench.host)
            took.append(timed(lambda: server.pipeline(count, count, lambda n: {"session_id": session, "command": "sleep 1"})))
            server.stop()
        lines.append(absolute("sleeps", f"{count} parallel `sleep 1` on one session, MaxSessions 10", statistics.median(took), "s",
                              at_most=goal, rounds={"seconds": took}))
    return lines
