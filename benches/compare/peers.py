"""The others: asyncssh, the npm server `ssh-mcp`, and bare russh. Whatever is installed lands under target/."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from host import Skip
from ours import Stdio

ASYNCSSH = "2.24.1"
MATPLOTLIB = "3.10.7"
NPM_SERVER = "2.11.0"


class Meter:
    """A program that does what a line says, and answers with the seconds that it took."""

    def __init__(self, host, *words):
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=host.environment(), text=True)
        self.pid = self.process.pid

    def order(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise EOFError(f"{self.process.args[0]} has gone")
        return float(answer)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def install(marker, what, *command, cwd=None):
    """Runs an installer once."""
    if marker.exists():
        return
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if ran.returncode != 0:
        raise Skip(f"{what} cannot be installed: {(ran.stderr or ran.stdout).strip().splitlines()[-1:]}")
    marker.touch()


def python(target, package):
    """The Python of a virtual environment that has this package of PyPI."""
    venv = target / "venv"
    install(target / "venv-made", "a virtual environment", sys.executable, "-m", "venv", str(venv))
    program = venv / "bin" / "python"
    install(target / package.replace("==", "-"), package, str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package)
    return str(program)


def asyncssh(target, host):
    program = python(target, f"asyncssh=={ASYNCSSH}")
    script = Path(__file__).with_name("peer_asyncssh.py")
    return Meter(host, program, str(script), str(host.port), host.user, str(host.key), str(host.known_hosts))


def bare_russh(root, host, build):
    """russh alone: the bench target of the crate; without `build` one that is there."""
    if build:
        ran = subprocess.run(["cargo", "build", "--quiet", "--locked", "--release", "--bench", "bare_russh", "--message-format", "json"],
                             cwd=root, capture_output=True, text=True)
        if ran.returncode != 0:
            raise Skip(f"bare russh does not build: {ran.stderr.strip()}")
        messages = (json.loads(line) for line in ran.stdout.splitlines())
        programs = [Path(m["executable"]) for m in messages if m.get("executable") and m["target"]["name"] == "bare_russh"]
    else:
        programs = [path for path in (root / "target" / "release" / "deps").glob("bare_russh-*") if not path.suffix]
    if not programs:
        raise Skip("bare russh is not built")
    program = max(programs, key=lambda path: path.stat().st_mtime)
    return Meter(host, str(program), str(host.port), host.user, str(host.key))


CONFIG = """
[defaults]
defaultProfile = "bench"
[[profiles]]
name = "bench"
host = "127.0.0.1"
port = {port}
user = "{user}"
auth = "key"
keyRef = "{key}"
role = "admin"
approvalPolicy = "auto"
"""


class NpmServer(Stdio):
    """The npm package `ssh-mcp`, set so that it runs commands without asking."""

    def __init__(self, target, host):
        node, npm = shutil.which("node"), shutil.which("npm")
        if not node or not npm:
            raise Skip("Node.js and npm are not installed")
        target.mkdir(parents=True, exist_ok=True)
        install(target / f"ssh-mcp-{NPM_SERVER}", "the npm server", npm, "install", "--prefix", str(target / "npm"), "--ignore-scripts",
                "--no-audit", "--no-fund", f"ssh-mcp@{NPM_SERVER}")
        folder = host.home / ".config" / "ssh-mcp-npm" / "ssh-mcp"
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        config = folder / "config.toml"
        config.write_text(CONFIG.format(port=host.port, user=host.user, key=host.key))
        config.chmod(0o600)
        folder.chmod(0o700)
        script = target / "npm" / "node_modules" / "ssh-mcp" / "build" / "index.js"
        super().__init__([node, str(script)], host.environment(XDG_CONFIG_HOME=str(folder.parent)))

    def execute(self, command="true"):
        self.call("run-command", command=command)
