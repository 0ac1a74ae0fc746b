"""Measures ssh-mcp beside what one would take instead, on loopback, and prints the table.

Every row is a ratio of one run: the contestants take turns, and medians of several rounds count.
"""

import argparse
import json
import subprocess
import sys
import time
import traceback
from datetime import datetime, timezone
from pathlib import Path

import calls
import forward
import growth
import machine
import peers
import report
import start
from host import Host, Skip
from measure import skipped
from ours import Http, Stdio

ROOT = Path(__file__).resolve().parents[2]

# What is measured, in the order of the table.
ROWS = {
    "start": start.start,
    "size": start.size,
    "execute": calls.execute,
    "cpu": calls.cpu,
    "connect": calls.connect,
    "callers": calls.callers,
    "ping": calls.ping,
    "output": growth.output,
    "forward": forward.bulk,
    "connections": forward.connections,
    "sleeps": calls.sleeps,
    "sessions": growth.sessions,
    "commands": growth.commands,
    "outputs": growth.outputs,
}


class Bench:
    """What every row gets: the programs, the host, and how much to do."""

    root = ROOT

    def __init__(self, options):
        self.options = options
        self.host = Host()
        self.programs = ROOT / "target" / options.profile
        # Where the others are installed.
        self.installed = ROOT / "target" / "benchmarks"
        self.installed.mkdir(parents=True, exist_ok=True)
        self.plots = []

    def scale(self, quick, full):
        return quick if self.options.quick else full

    def stdio(self, program=None, **settings):
        """A new ssh-mcp-stdio."""
        return Stdio([str(program or self.programs / "ssh-mcp-stdio")], self.environment(settings))

    def http(self, **settings):
        """A new ssh-mcp."""
        return Http(str(self.programs / "ssh-mcp"), self.environment(settings))

    def environment(self, settings):
        return self.host.environment(RUST_LOG="warn", SSH_KEY_ROOTS=str(self.host.dir), **settings)

    def asyncssh(self):
        return peers.asyncssh(self.installed, self.host)

    def npm_server(self):
        return peers.NpmServer(self.installed, self.host)

    def bare_russh(self):
        return peers.bare_russh(ROOT, self.host, not self.options.no_build)

    def build(self, profile):
        subprocess.run(["cargo", "build", "--quiet", "--locked", "--profile", profile, "--bins"], cwd=ROOT, check=True)

    def handed_out(self):
        """The profile of what users get, built in full runs; otherwise what is measured."""
        if not self.options.quick and not self.options.no_build:
            self.build("dist")
        return "dist" if (ROOT / "target" / "dist" / "ssh-mcp-stdio").exists() else self.options.profile

    def curve(self, name, title, x, points, **series):
        """Keeps a curve; it is drawn at the end. `series` are fields of the points and what they are."""
        self.plots.append({"file": f"{name}.svg", "title": title, "x": x, "series": series, "points": points})


def arguments():
    parser = argparse.ArgumentParser(prog="benches/run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds per row: for a look, not for a claim")
    parser.add_argument("--row", action="append", choices=ROWS, help="this row only; may be repeated")
    parser.add_argument("--profile", default="release", choices=("release", "dist"), help="which build is measured")
    parser.add_argument("--no-build", action="store_true", help="takes the programs that are there")
    parser.add_argument("--json", metavar="FILE", help="writes the results there too")
    parser.add_argument("--render", action="store_true", help="measures nothing: rewrites docs/PERFORMANCE.md from its results.json")
    parser.add_argument("--check", action="store_true", help="measures nothing: fails unless the page fits its results.json")
    parser.add_argument("--write", action="store_true", help="rewrites docs/PERFORMANCE.md and docs/performance")
    return parser.parse_args()


def ssh_mcp_version():
    manifest = (ROOT / "Cargo.toml").read_text()
    return next(line.split('"')[1] for line in manifest.splitlines() if line.startswith("version = "))


def versions():
    return {
        "ssh-mcp": ssh_mcp_version(),
        "OpenSSH": machine.first_line("ssh", "-V"),
        "asyncssh": peers.ASYNCSSH,
        "npm ssh-mcp": peers.NPM_SERVER,
        "rustc": machine.first_line("rustc", "--version"),
        "Python": sys.version.split()[0],
        "Node.js": machine.first_line("node", "--version"),
    }


def measure(bench, name):
    """The lines of one row; a row that fails is a line that says so."""
    began = time.monotonic()
    try:
        lines = [line.as_dict() for line in ROWS[name](bench)]
    except Skip as why:
        lines = [skipped(name, name, str(why)).as_dict()]
    except Exception as error:  # One row's failure is not to cost the others.
        traceback.print_exc()
        lines = [skipped(name, name, f"failed: {error!r}").as_dict()]
    for line in lines:
        print(report.row(line), flush=True)
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return lines


def draw(bench):
    folder = ROOT / "docs" / "performance"
    script = Path(__file__).with_name("plots.py")
    try:
        python = peers.python(bench.installed, f"matplotlib=={peers.MATPLOTLIB}")
    except Skip as why:
        print(f"no plots: {why}", file=sys.stderr)
        return
    subprocess.run([python, str(script), str(folder / "results.json"), str(folder)], check=True)


def main():
    options = arguments()
    if options.render or options.check:
        return report.rendered(ROOT / "docs", options.check)
    try:
        bench = Bench(options)
    except Skip as why:
        print(f"skipped: {why}", file=sys.stderr)
        return 0
    if not options.no_build:
        bench.build(options.profile)
    began = time.monotonic()
    commit = machine.first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    about = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit,
        "machine": machine.describe(),
        "versions": {name: version for name, version in versions().items() if version},
        "load_before": machine.load(),
        "mode": "quick" if options.quick else "full",
        "profile": options.profile,
    }
    results = {"about": about, "lines": [], "plots": bench.plots}
    try:
        for name in options.row or ROWS:
            results["lines"] += measure(bench, name)
    finally:
        bench.host.stop()
    about["load_after"] = machine.load()
    about["minutes"] = round((time.monotonic() - began) / 60, 1)
    print("\n" + report.markdown(results))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    if options.write:
        report.write(results, ROOT / "docs")
        draw(bench)
    return 0


if __name__ == "__main__":
    sys.exit(main())
