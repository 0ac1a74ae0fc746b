"""OpenSSH's client: one connection per command, a master connection, a forward."""

import subprocess

from host import accepts, free_port, wait_until

# What ssh-mcp and OpenSSH's server agree on; OpenSSH's client alone would take chacha20-poly1305.
CIPHER = "aes256-gcm@openssh.com"


def command(host, *options):
    """The words of an `ssh` that reads no configuration but what stands here."""
    return ["ssh", "-F", "none", "-p", str(host.port), "-l", host.user, "-i", str(host.key), "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={host.known_hosts}", *options, "127.0.0.1"]


def run(host, *options, then=("true",), stdout=subprocess.DEVNULL):
    subprocess.run([*command(host, *options), *then], check=True, stdin=subprocess.DEVNULL, stdout=stdout,
                   stderr=subprocess.DEVNULL, env=host.environment())


class Background:
    """An `ssh` that stays."""

    def __init__(self, host, *options):
        self.host = host
        self.process = subprocess.Popen(command(host, "-N", *options), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=host.environment())
        self.pid = self.process.pid

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Master(Background):
    """A ControlMaster; `execute` is what `ssh -S` costs."""

    def __init__(self, host, name="master"):
        self.socket = host.dir / name
        super().__init__(host, "-M", "-S", str(self.socket))
        wait_until("the master connection is up", self.socket.exists)

    def execute(self, words="true"):
        run(self.host, "-S", str(self.socket), then=(words,))


class Forward(Background):
    """`ssh -L`, with the cipher that ssh-mcp takes."""

    def __init__(self, host, remote_port, cipher=CIPHER):
        self.port = free_port()
        super().__init__(host, "-c", cipher, "-L", f"127.0.0.1:{self.port}:127.0.0.1:{remote_port}")
        wait_until("ssh -L listens", lambda: accepts(self.port))
