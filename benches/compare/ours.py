"""ssh-mcp as an MCP client sees it: JSON-RPC over the pipes of ssh-mcp-stdio, or POST to ssh-mcp's /mcp."""

import json
import os
import socket
import subprocess

from host import accepts, free_port, wait_until

HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "0"}}


class ToolError(Exception):
    """A call that failed, with the answer's text."""


class Calls:
    """What both transports have in common: `request` is theirs."""

    sequence = 0

    def message(self, method, params):
        self.sequence += 1
        return {"jsonrpc": "2.0", "id": self.sequence, "method": method, "params": params}

    def call(self, tool, **arguments):
        """Calls a tool and gives its structured answer."""
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise ToolError(result["content"][0]["text"])
        return result.get("structuredContent")

    def connect(self, host):
        """A new session's id."""
        return self.call("ssh_connect", address=host.address, key_path=str(host.key), persistent=True)["session_id"]

    def execute(self, session, command="true"):
        ran = self.call("ssh_execute", session_id=session, command=command)
        if ran["exit_code"] != 0:
            raise ToolError(str(ran))
        return ran


class Stdio(Calls):
    """ssh-mcp-stdio, or any other server that speaks MCP over its pipes."""

    def __init__(self, command, environment, ready=True):
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        self.to = self.process.stdin.fileno()
        self.answers = self.process.stdout
        self.request("initialize", HELLO)
        if ready:
            self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def send(self, message):
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self.to, data):]

    def receive(self):
        """The next answer; notifications between them are not of interest."""
        while True:
            line = self.answers.readline()
            if not line:
                raise EOFError("the server has gone")
            answer = json.loads(line)
            if "id" in answer and "method" not in answer:
                return answer

    def request(self, method, params):
        message = self.message(method, params)
        self.send(message)
        return result(self.receive(), message["id"])

    def pipeline(self, count, callers, arguments, tool="ssh_execute"):
        """`count` calls, `callers` of them at a time; `arguments(n)` are those of the n-th."""
        sent = done = 0
        while done < count:
            while sent < count and sent - done < callers:
                self.send(self.message("tools/call", {"name": tool, "arguments": arguments(sent)}))
                sent += 1
            answer = self.receive()
            if answer["result"].get("isError"):
                raise ToolError(answer["result"]["content"][0]["text"])
            done += 1

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.answers.close()


class Http(Calls):
    """ssh-mcp over one kept-alive connection; a raw socket, since http.client costs more than some of the calls."""

    def __init__(self, program, environment):
        self.port = free_port()
        # It would be closed while the others have their turn.
        settings = {"MCP_PORT": str(self.port), "MCP_HEADER_TIMEOUT": "600"}
        self.process = subprocess.Popen([program], env={**environment, **settings}, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        wait_until("ssh-mcp listens", lambda: accepts(self.port))
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = self.socket.makefile("rb")
        self.session = None
        self.request("initialize", HELLO)
        self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def request(self, method, params):
        message = self.message(method, params)
        return result(self.post(message), message["id"])

    def post(self, message):
        body = json.dumps(message).encode()
        session = f"Mcp-Session-Id: {self.session}\r\nMcp-Protocol-Version: 2025-11-25\r\n" if self.session else ""
        head = (f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
                f"Accept: application/json, text/event-stream\r\n{session}Content-Length: {len(body)}\r\n\r\n")
        self.socket.sendall(head.encode() + body)
        status = self.answers.readline()
        headers = {}
        while (line := self.answers.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if not status.split()[1].startswith(b"2"):
            raise ToolError(f"{status!r} {headers}")
        self.session = headers.get("mcp-session-id", self.session)
        body = self.body(headers)
        # One event stream per answer, or the answer itself.
        if headers.get("content-type", "").startswith("text/event-stream"):
            body = [line[5:] for line in body.splitlines() if line.startswith(b"data:") and line[5:].strip()][-1]
        return json.loads(body) if body else None

    def body(self, headers):
        if headers.get("transfer-encoding") != "chunked":
            return self.answers.read(int(headers.get("content-length", 0)))
        body = b""
        while size := int(self.answers.readline(), 16):
            body += self.answers.read(size)
            self.answers.readline()
        self.answers.readline()
        return body

    def stop(self):
        self.answers.close()
        self.socket.close()
        self.process.terminate()
        self.process.wait()


def result(answer, expected):
    if answer.get("id") != expected or "result" not in answer:
        raise ToolError(str(answer))
    return answer["result"]
