"""Rows of a server that does nothing yet: its start, its memory, its size."""

import os
import statistics
import time

import machine
from host import Skip
from measure import absolute, alternate, skipped, timed, versus


def start(bench):
    rounds = bench.scale(10, 60)
    resting, private = [], []
    # As it is handed out, where that is built.
    profile = bench.handed_out()
    program = bench.root / "target" / profile / "ssh-mcp-stdio"

    def ours():
        began = time.perf_counter()
        server = bench.stdio(program)
        took = 1000 * (time.perf_counter() - began)
        server.request("tools/list", {})
        # It has answered; a moment later it is at rest.
        time.sleep(0.02)
        resting.append(machine.memory_kib(server.pid, "VmRSS") / 1024)
        private.append(machine.memory_kib(server.pid, "RssAnon") / 1024)
        server.stop()
        return took

    took = [ours() for _ in range(rounds)]
    lines = [
        absolute("start", f"start to the answer to `initialize`, stdio (`{profile}`)", statistics.median(took), "ms", at_most=5, rounds={"ms": took}),
        absolute("start", f"memory at rest, after `tools/list`: VmRSS (`{profile}`)", statistics.median(resting), "MiB", at_most=10,
                 note=f"RssAnon {statistics.median(private):.1f} MiB"),
    ]
    return lines + beside_npm(bench, ours, resting)


def beside_npm(bench, ours, resting):
    theirs = []

    def npm():
        began = time.perf_counter()
        server = bench.npm_server()
        took = 1000 * (time.perf_counter() - began)
        server.request("tools/list", {})
        time.sleep(0.5)
        theirs.append(machine.memory_kib(server.pid, "VmRSS") / 1024)
        server.stop()
        return took

    try:
        bench.npm_server().stop()
        values = alternate({"ssh-mcp": ours, "npm ssh-mcp": npm}, bench.scale(2, 8))
    except Skip as why:
        return [skipped("start", "start and memory of the npm server", str(why))]
    return [versus("start", "start to the answer to `initialize`, stdio", values, "ssh-mcp", "npm ssh-mcp", unit="ms"),
            versus("start", "memory at rest: VmRSS", {"ssh-mcp": resting, "npm ssh-mcp": theirs}, "ssh-mcp", "npm ssh-mcp", unit="MiB")]


def size(bench):
    """The programs as they are handed out: built with the profile `dist`."""
    bench.handed_out()
    lines = []
    for name, goal in (("ssh-mcp", 15), ("ssh-mcp-stdio", 9)):
        program = bench.root / "target" / "dist" / name
        if not program.exists():
            lines.append(skipped("size", f"size of `{name}`", "the profile dist is not built"))
            continue
        lines.append(absolute("size", f"size of `{name}` (`dist`)", os.path.getsize(program) / 1e6, "MB", at_most=goal))
    return lines
