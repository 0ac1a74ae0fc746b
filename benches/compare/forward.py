"""Rows of port forwards, against `ssh -L` with the same cipher."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import machine
import openssh
import traffic
from measure import alternate, timed, versus

OURS, THEIRS = "ssh-mcp", "ssh -L"


class Endpoint:
    """What stands behind the forwards."""

    def __enter__(self):
        program = [sys.executable, str(Path(traffic.__file__))]
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_):
        self.process.communicate()


class Pair:
    """The same endpoint, once through ssh-mcp and once through `ssh -L`; port and process of each."""

    def __init__(self, bench):
        self.endpoint = Endpoint()
        self.bench = bench

    def __enter__(self):
        port = self.endpoint.__enter__().port
        self.ours = self.bench.stdio()
        session = self.ours.connect(self.bench.host)
        opened = self.ours.call("ssh_forward", session_id=session, local_port=0, remote_address="127.0.0.1", remote_port=port)
        self.theirs = openssh.Forward(self.bench.host, port)
        return {OURS: (int(opened["local_address"].rpartition(":")[2]), self.ours.pid), THEIRS: (self.theirs.port, self.theirs.pid)}

    def __exit__(self, *_):
        self.theirs.stop()
        self.ours.stop()
        self.endpoint.__exit__()


def bulk(bench):
    """1 GB to the host, from it, and both at once: time, and CPU of the client's process."""
    length, rounds = bench.scale((100 << 20, 3), (1000 << 20, 5))
    lines = []
    with Pair(bench) as pair:
        for what, name, times in ((traffic.TO, "to the host", 1), (traffic.FROM, "from the host", 1), (traffic.BOTH, "both at once", 2)):
            cpu = {OURS: [], THEIRS: []}

            def turn(contestant):
                port, pid = pair[contestant]
                before = machine.cpu_seconds(pid)
                took = timed(lambda: traffic.exchange(port, what, length))
                cpu[contestant].append(machine.cpu_seconds(pid) - before)
                return took

            values = alternate({OURS: lambda: turn(OURS), THEIRS: lambda: turn(THEIRS)}, rounds, warm_up=1)
            work = f"forward {length >> 20} MiB {name}"
            lines.append(versus("forward", work, values, OURS, THEIRS, unit="MiB/s", at_least=1.0, per=times * (length >> 20)))
            cpu = {contestant: seconds[1:] for contestant, seconds in cpu.items()}
            lines.append(versus("forward", f"{work}: CPU of the client", cpu, OURS, THEIRS, unit="s", at_most=1.2))
    return lines


def connections(bench):
    """1,000 short connections: open, one byte there, one back, close."""
    count, rounds = bench.scale((100, 5), (1000, 5))
    lines = []
    with Pair(bench) as pair, ThreadPoolExecutor(16) as pool:
        def short(port, _):
            traffic.exchange(port, traffic.ONE, 1)

        def one_by_one(contestant):
            return timed(lambda: [short(pair[contestant][0], n) for n in range(count)])

        def together(contestant):
            return timed(lambda: list(pool.map(lambda n: short(pair[contestant][0], n), range(count))))

        for how, turn in (("one after the other", one_by_one), ("16 at a time", together)):
            values = alternate({OURS: lambda: turn(OURS), THEIRS: lambda: turn(THEIRS)}, rounds, warm_up=1)
            lines.append(versus("connections", f"forward: {count} short connections, {how}", values, OURS, THEIRS,
                                unit="/s", at_least=1.0, per=count))
    return lines


