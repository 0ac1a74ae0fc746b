"""An OpenSSH server of our own on a free port of loopback, which lets one ordinary user in."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

# The user of the tests, where the script runs as root. An empty home: start-up files would slow every command down.
USER = "sshmcp-test"

CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {dir}/host_key
AuthorizedKeysFile {dir}/client_key.pub
PidFile none
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 2000
MaxSessions {max_sessions}
PrintMotd no
"""


class Skip(Exception):
    """What cannot be measured here, and why."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(what, condition, seconds=20):
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"waited {seconds} s until {what}")
        time.sleep(0.01)


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Host:
    """A running sshd, its key for the client, and a home for the clients."""

    def __init__(self, max_sessions=10):
        program = next((p for p in ("/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd") if os.access(p, os.X_OK)), None)
        if not program or not shutil.which("ssh"):
            raise Skip("OpenSSH's client and server are not installed")
        self.user = ordinary_user()
        self.dir = Path(tempfile.mkdtemp(prefix="ssh-mcp-bench-"))
        self.dir.chmod(0o755)
        self.home = self.dir / "home"
        self.home.mkdir()
        self.key = self.dir / "client_key"
        for key in ("host_key", "client_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir / key], check=True)
        self.port = free_port()
        config = self.dir / "sshd_config"
        config.write_text(CONFIG.format(port=self.port, dir=self.dir, max_sessions=max_sessions))
        self.known_hosts = self.dir / "known_hosts"
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {(self.dir / 'host_key.pub').read_text()}")
        with open(self.dir / "sshd.log", "wb") as log:
            self.process = subprocess.Popen([program, "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until("sshd listens", lambda: accepts(self.port))

    @property
    def address(self):
        return f"{self.user}@127.0.0.1:{self.port}"

    def environment(self, **more):
        """The environment of every client: no configuration, no agent of the person who runs this."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), **more}

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def ordinary_user():
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid()).pw_name
    Path("/run/sshd").mkdir(exist_ok=True)
    try:
        pwd.getpwnam(USER)
    except KeyError:
        with tempfile.TemporaryDirectory() as skeleton:
            # No password, but not locked either: sshd refuses locked accounts.
            subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", "--skel", skeleton, "--password", "*", USER], check=True)
    return USER
