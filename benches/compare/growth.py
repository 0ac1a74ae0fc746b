"""Rows of what grows: output, sessions, commands; and their curves."""

import math
import statistics

import machine
import openssh
from host import Skip
from measure import Line, absolute, alternate, timed, versus

MIB = 1 << 20


def text_file(bench, mib=64):
    """A file of text on the host that every user may read; `cat` of it costs next to nothing."""
    path = bench.host.dir / "text"
    if not path.exists():
        line = b"the quick brown fox jumps over the lazy dog and 0123456789abcdef" * 2
        path.write_bytes((line[:127] + b"\n") * (mib * MIB // 128))
        path.chmod(0o644)
    return path


def producing(bench, size):
    """A command that writes this many bytes of text."""
    path = text_file(bench)
    whole, rest = divmod(size, path.stat().st_size)
    parts = ["cat" + f" {path}" * whole] if whole else []
    return "; ".join([*parts, f"head -c {rest} {path}"] if rest else parts)


def take_in(bench, server, session, size):
    """Seconds for all of it to be there, and by how much memory rose at most meanwhile (KiB)."""
    machine.forget_peak(server.pid)
    before = machine.memory_kib(server.pid, "VmRSS")
    ran = {}
    took = timed(lambda: ran.update(server.execute(session, producing(bench, size))))
    if ran["stdout_bytes"] != size:
        raise ValueError(f"{ran['stdout_bytes']} of {size} bytes arrived")
    return took, machine.memory_kib(server.pid, "VmHWM") - before


def output(bench):
    """1 GB of output, against `ssh > file`."""
    size, rounds = bench.scale((100 * MIB, 3), (1000 * MIB, 5))
    peaks = []

    # What a turn has written is removed before the next, with the server that keeps it: pages that a virtual machine has
    # never had before cost several times as much as those that it has, and all shall write to the same kind.
    def ours():
        server = bench.stdio()
        try:
            took, peak = take_in(bench, server, server.connect(bench.host), size)
        finally:
            server.stop()
        peaks.append(peak / 1024)
        return took

    def ssh(*options):
        taken = bench.host.dir / "taken"
        try:
            with open(taken, "wb") as file:
                return timed(lambda: openssh.run(bench.host, *options, then=(producing(bench, size),), stdout=file))
        finally:
            taken.unlink()

    values = alternate({"ssh-mcp": ours, "ssh > file": ssh, "ssh > file, same cipher": lambda: ssh("-c", openssh.CIPHER)}, rounds, warm_up=1)
    mib = size // MIB
    work = f"{mib} MiB of output taken in"
    return [versus("output", work, values, "ssh-mcp", "ssh > file", unit="MiB/s", at_least=1.0, per=mib),
            versus("output", work, values, "ssh-mcp", "ssh > file, same cipher", unit="MiB/s", at_least=1.0, per=mib),
            absolute("output", f"{work}: memory above rest, VmHWM less VmRSS before", max(peaks), "MiB", at_most=32, rounds={"MiB": peaks})]


def sessions(bench):
    """1,000 sessions, and the curve up to there."""
    points = bench.scale((1, 10, 100), (1, 10, 100, 1000))
    most = points[-1]
    server = bench.stdio(SSH_MAX_SESSIONS=str(most), SSH_MAX_SESSIONS_TOTAL=str(most))
    curve = []
    try:
        server.connect(bench.host)  # The first one pays for code that is not paged in yet.
        server.call("ssh_disconnect", session_id=server.call("ssh_list_sessions")["sessions"][0]["session_id"])
        rest, files = state(server)
        took = []
        while len(took) < most:
            took.append(timed(lambda: server.connect(bench.host)))
            if len(took) in points:
                memory, open_files = state(server)
                curve.append({"sessions": len(took), "seconds": sum(took), "kib": memory - rest})
                calls = [timed(lambda: server.request("ping", {})) for _ in range(20)]
                curve[-1]["list_seconds"] = timed(lambda: server.call("ssh_list_sessions"))
                curve[-1]["ping_seconds"] = statistics.median(calls)
        memory, open_files = state(server)
        each, descriptors = (memory - rest) / most, (open_files - files) / most
    finally:
        server.stop()
    try:
        bare = bench.bare_russh()
        before = machine.memory_kib(bare.pid, "VmRSS")
        bare.order(f"hold {most}")
        note = f"bare russh {(machine.memory_kib(bare.pid, 'VmRSS') - before) / most:.0f} KiB"
        bare.stop()
    except Skip:
        note = ""
    last = took[-max(1, most // 10):]
    lines = [absolute("sessions", f"{most} sessions: memory each, VmRSS", each, "KiB", at_most=100, note=note),
             absolute("sessions", f"{most} sessions: descriptors each", descriptors, ""),
             Line("sessions", f"{most} sessions: `ssh_connect`, the last tenth", 1000 * statistics.median(last), "ms", "the first tenth",
                  1000 * statistics.median(took[:len(last)]), statistics.median(last) / statistics.median(took[:len(last)]))]
    bench.curve("sessions", "Sessions", "sessions", curve, seconds="s to connect all", kib="KiB of memory")
    return [*lines, growth("sessions", "sessions", curve, "seconds"), growth("sessions", "sessions", curve, "kib")]


def state(server):
    return machine.memory_kib(server.pid, "VmRSS"), machine.descriptors(server.pid)


def growth(row, what, curve, field):
    """The exponent of the cost in the upper half of the curve: 1 is linear."""
    first, last = curve[-2], curve[-1]
    exponent = math.log(last[field] / max(first[field], 1e-9)) / math.log(last[what] / first[what])
    name = {"seconds": "time", "kib": "memory"}[field]
    return absolute(row, f"growth of {name} from {first[what]:,} to {last[what]:,} {what}: exponent", exponent, "", at_most=1.1)


def commands(bench):
    """Commands one after another, 8 at a time, on one session."""
    points = bench.scale((10, 100, 1000), (10, 100, 1000, 10000))
    curve = []
    server = bench.stdio()
    try:
        session = server.connect(bench.host)
        server.pipeline(200, 8, lambda _: {"session_id": session, "command": "true"})
        for count in points:
            before = machine.memory_kib(server.pid, "VmRSS")
            took = timed(lambda: server.pipeline(count, 8, lambda _: {"session_id": session, "command": "true"}))
            curve.append({"commands": count, "seconds": took, "kib": max(1, machine.memory_kib(server.pid, "VmRSS") - before)})
    finally:
        server.stop()
    bench.curve("commands", "Commands", "commands", curve, seconds="s for all", kib="KiB of memory more than before")
    each = curve[-1]["kib"] / points[-1]
    return [growth("commands", "commands", curve, "seconds"),
            absolute("commands", f"{points[-1]:,} commands: memory that each leaves behind, VmRSS", each, "KiB")]


def outputs(bench):
    """Output of one command, from 1 MB to 1 GB."""
    points = bench.scale((1, 10, 100), (1, 10, 100, 1000))
    curve = []
    server = bench.stdio()
    try:
        session = server.connect(bench.host)
        take_in(bench, server, session, MIB)
        for mib in points:
            runs = [take_in(bench, server, session, mib * MIB) for _ in range(3)]
            curve.append({"MiB": mib, "seconds": statistics.median(run[0] for run in runs), "kib": max(1, max(run[1] for run in runs))})
    finally:
        server.stop()
    bench.curve("outputs", "Output of one command", "MiB", curve, seconds="s until all is there", kib="KiB of memory above rest")
    return [growth("outputs", "MiB", curve, "seconds"), growth("outputs", "MiB", curve, "kib")]
