"""Drives ssh-mcp with the official Python SDK over every transport that it has, and in both eras of the protocol: connect,
execute, progress, cancel, elicitation, a one-time code, calls at the same time, and a connection that is lost.

    scenarios.py --address USER@HOST:PORT --key FILE --stdio ssh-mcp-stdio --http ssh-mcp --url URL --code FILE [--ask]

FILE of --code is what examples/one_time_code prints. Prints one JSON object a line: {client, transport, scenario, result, ms, detail}. With --ask the server has the setting
SSH_HOST_KEY_POLICY, and is started anew for the scenario that needs it.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from mcp.client import Client
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitResult

# How long anything may take. No scenario needs a tenth of it.
BOUND = 20.0
NAME = f"Python {version('mcp')}"
# The last is how the SDK finds the revision: "auto" is its default, and probes.
WAYS = [
    ("stdio", "stdio", "legacy"),
    ("/mcp", "http", "legacy"),
    ("/sse", "sse", "legacy"),
    ("stdio 2026", "stdio", "auto"),
    ("/mcp 2026", "http", "auto"),
]

parser = argparse.ArgumentParser()
for option in ("address", "key", "stdio", "http", "url", "code"):
    parser.add_argument(f"--{option}", required=True)
parser.add_argument("--ask", action="store_true")
options = parser.parse_args()
LOGIN = {"address": options.address, "key_path": options.key, "max_retries": 0}
# Keys are read from allowed directories only.
KEYS = {"SSH_KEY_ROOTS": str(Path(options.key).parent)}
HOME = tempfile.TemporaryDirectory(prefix="scenarios-", ignore_cleanup_errors=True)
failures = 0


class Skipped(Exception):
    """Skips the rest of a scenario."""


async def scenario(transport, name, body, bound=BOUND):
    global failures
    began = time.monotonic()
    result, detail = "ok", ""
    try:
        async with asyncio.timeout(bound):
            detail = await body() or ""
    except Skipped as why:
        result, detail = "skipped", str(why)
    except Exception as error:
        failures += 1
        result, detail = "FAILED", "; ".join(causes(error))
    ms = round((time.monotonic() - began) * 1000)
    row = {"client": NAME, "transport": transport, "scenario": name, "result": result, "ms": ms, "detail": detail[:300]}
    print(json.dumps(row), flush=True)


def causes(error):
    """What went wrong, without the groups that it comes in."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for one in error.exceptions for cause in causes(one)]
    return [f"{type(error).__name__}: {error}"]


async def until(what, condition):
    async with asyncio.timeout(BOUND / 2):
        while not await condition():
            await asyncio.sleep(0.05)


def stdio_server(env):
    """A server on stdio that writes its process id into a file first."""
    pid_file = Path(HOME.name) / uuid.uuid4().hex
    args = ["-c", 'echo $$ >"$1"; exec "$2"', "sh", str(pid_file), options.stdio]
    parameters = StdioServerParameters(command="/bin/sh", args=args, env={"HOME": HOME.name} | KEYS | env)
    return stdio_client(parameters, errlog=open(os.devnull, "w")), pid_file


@asynccontextmanager
async def opened(kind, mode, url=None, env=None, answer=None):
    """A client, and the file with the process id of its server where it has one of its own."""
    url, pid_file = url or options.url, None
    match kind:
        case "stdio":
            transport, pid_file = stdio_server(env or {})
        case "http":
            transport = streamable_http_client(f"{url}/mcp")
        case _:
            transport = sse_client(f"{url}/sse")
    async with Client(transport, mode=mode, elicitation_callback=answer) as client:
        yield client, pid_file


async def called(client, tool, arguments, **more):
    result = await client.call_tool(tool, arguments, **more)
    return result.structured_content, bool(result.is_error)


async def succeed(client, tool, arguments, **more):
    answer, is_error = await called(client, tool, arguments, **more)
    assert not is_error, f"{tool}: {answer}"
    return answer


async def run(client, session_id, command, **more):
    return await succeed(client, "ssh_execute", {"session_id": session_id, "command": command, "timeout_secs": 15}, **more)


async def execute(client, session_id):
    arguments = {"session_id": session_id, "command": "cat; echo warning >&2; exit 3", "stdin": "Grüße\n"}
    answer = await succeed(client, "ssh_execute", arguments)
    got = tuple(answer[field] for field in ("status", "exit_code", "stdout", "stderr"))
    assert got == ("completed", 3, "Grüße\n", "warning\n"), answer


async def progress(client, session_id):
    """The command ends when its progress has been seen, so without progress there is no answer."""
    flag, seen = f"/tmp/scenarios-{uuid.uuid4()}", asyncio.Event()

    async def told(_done, _total, message):
        if "first line" in (message or ""):
            seen.set()

    async def let_go():
        await seen.wait()
        await run(client, session_id, f"touch {flag}")

    command = f"echo first line; until [ -e {flag} ]; do sleep 0.05; done; rm {flag}"
    answer, _ = await asyncio.gather(run(client, session_id, command, progress_callback=told), let_go())
    assert answer["exit_code"] == 0, answer


async def cancel(client, session_id):
    """What the client gives up ends on the remote host too."""
    mark = f"120.{time.time_ns() % 10**9}{os.getpid()}"

    async def running():
        # The class keeps the pattern from matching itself.
        answer = await run(client, session_id, f"pgrep -f 'sleep {mark.replace('.', '[.]')}' | wc -l")
        return int(answer["stdout"]) > 0

    async def is_gone():
        return not await running()

    call = asyncio.create_task(run(client, session_id, f"exec sleep {mark}"))
    await until("the command runs", running)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    await until("the remote process is gone", is_gone)


async def parallel(client, session_id):
    """Each command waits for the next one: they end only if all run at the same time."""
    folder = f"/tmp/scenarios-{uuid.uuid4()}"
    await run(client, session_id, f"mkdir {folder}")
    wait = "touch {0}/{1}; until [ -e {0}/{2} ]; do sleep 0.05; done; echo {1}"
    calls = [run(client, session_id, wait.format(folder, n, (n + 1) % 8)) for n in range(8)]
    answers = await asyncio.gather(*calls)
    assert [answer["stdout"] for answer in answers] == [f"{n}\n" for n in range(8)], answers
    await run(client, session_id, f"rm -r {folder}")


class Proxy:
    """Passes on what goes between clients and the HTTP server, until it drops it all."""

    async def start(self):
        self.writers = set()
        self.theirs = urlsplit(options.url).netloc.encode()
        self.listener = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        ours = f"127.0.0.1:{self.listener.sockets[0].getsockname()[1]}"
        self.url, self.ours = f"http://{ours}", ours.encode()
        assert len(self.ours) == len(self.theirs)
        return self

    async def serve(self, reader, writer):
        theirs, to_them = await asyncio.open_connection("127.0.0.1", urlsplit(options.url).port)
        self.writers |= {writer, to_them}
        await asyncio.gather(self.copy(reader, to_them, True), self.copy(theirs, writer, False))

    async def copy(self, reader, writer, rename):
        try:
            while data := await reader.read(65536):
                # The server refuses a Host that is not its own. Both have five digits, so no length changes.
                writer.write(data.replace(self.ours, self.theirs) if rename else data)
                await writer.drain()
            writer.close()
        except OSError:
            pass
        finally:
            self.writers.discard(writer)

    def drop(self):
        self.listener.close()
        for writer in list(self.writers):
            writer.transport.abort()


async def dropped(kind, mode):
    """The connection is lost while a command runs. The call ends, the command has run once, and work goes on."""
    proxy = None if kind == "stdio" else await Proxy().start()
    file, told = f"/tmp/scenarios-{uuid.uuid4()}", {}

    async def ran(client, session_id):
        return (await run(client, session_id, f"cat {file} 2>/dev/null || true"))["stdout"]

    async def lose():
        async with opened(kind, mode, proxy and proxy.url) as (client, pid_file):
            session_id = told["session_id"] = (await succeed(client, "ssh_connect", LOGIN))["session_id"]

            async def is_running():
                return await ran(client, session_id) == "ran\n"

            arguments = {"session_id": session_id, "command": f"echo ran >>{file}; sleep 300"}
            call = asyncio.create_task(called(client, "ssh_execute", arguments, read_timeout_seconds=5))
            await until("the command runs", is_running)
            if proxy:
                proxy.drop()
            else:
                os.kill(int(pid_file.read_text()), signal.SIGKILL)
            await asyncio.wait([call])
            told["error"] = call.exception()

    try:
        await lose()
    except Exception as error:
        # The SDK may tell at the end of a client that its connection was gone.
        told.setdefault("error", error)
    assert told.get("error") is not None, "answered"
    async with opened(kind, mode) as (again, _):
        # Sessions belong to the server: over HTTP it is still there.
        session_id = told["session_id"] if proxy else (await succeed(again, "ssh_connect", LOGIN))["session_id"]
        assert await ran(again, session_id) == "ran\n", "it ran once"
        await run(again, session_id, f"rm {file}")
        await succeed(again, "ssh_disconnect", {"session_id": session_id})
    return "; ".join(causes(told["error"]))


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def elicitation(kind, mode):
    """The user is asked about an unknown host, says no, and then yes."""
    if not options.ask:
        raise Skipped("the server has no setting SSH_HOST_KEY_POLICY")
    asked, trust = 0, False

    async def answer(_context, params):
        nonlocal asked
        asked += 1
        if not trust:
            return ElicitResult(action="decline")
        return ElicitResult(action="accept", content={field: True for field in params.requested_schema["properties"]})

    with tempfile.TemporaryDirectory(dir=HOME.name) as strange:
        env = {"HOME": strange, "SSH_HOST_KEY_POLICY": "ask"}
        port = free_port()
        http = None
        if kind != "stdio":
            environment = env | KEYS | {"PATH": os.environ["PATH"], "MCP_PORT": str(port)}
            null = subprocess.DEVNULL
            http = await asyncio.create_subprocess_exec(options.http, env=environment, stdout=null, stderr=null)

        async def listens():
            try:
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                return True
            except OSError:
                return False

        try:
            if http:
                await until("the server listens", listens)
            async with opened(kind, mode, f"http://127.0.0.1:{port}", env, answer) as (client, _):
                refused, is_error = await called(client, "ssh_connect", LOGIN)
                assert is_error and asked == 1, f"asked {asked} times: {refused}"
                trust = True
                session_id = (await succeed(client, "ssh_connect", LOGIN))["session_id"]
                assert asked == 2
                await execute(client, session_id)
                return f"declined: {refused['code']}"
        finally:
            if http:
                http.terminate()
                await http.wait()


async def one_time_code(kind, mode):
    """A host asks for a password and a one-time code: the code is the user's, who types a wrong one first."""
    host = json.loads(Path(options.code).read_text())
    asked, typed = [], "000000x"

    async def answer(_context, params):
        asked.append(params.message)
        return ElicitResult(action="accept", content={"answer_1": typed})

    async with opened(kind, mode, answer=answer) as (client, _):
        to = {"address": host["address"], "password": host["password"], "max_retries": 0}
        wrong, is_error = await called(client, "ssh_connect", to)
        assert is_error and wrong["code"] == "auth_failed", wrong
        typed = host["code"]
        session = await succeed(client, "ssh_connect", to)
        assert session["auth_method"] == "keyboard-interactive", session
        assert len(asked) == 2 and all("> Verification code:" in message for message in asked), asked
        assert host["code"] not in json.dumps(session), "the answer does not repeat it"
        await execute(client, session["session_id"])
        await succeed(client, "ssh_disconnect", {"session_id": session["session_id"]})
        return f"a wrong one: {wrong['why']}"


async def everything(transport, kind, mode):
    await scenario(transport, "elicitation", lambda: elicitation(kind, mode))
    await scenario(transport, "one-time code", lambda: one_time_code(kind, mode))
    await scenario(transport, "dropped", lambda: dropped(kind, mode))
    told = {}

    async def work():
        async with opened(kind, mode) as (client, _):

            async def connect():
                tools = (await client.list_tools()).tools
                assert len(tools) >= 9, tools
                assert mode == "legacy" or client.protocol_version == "2026-07-28", client.protocol_version
                told["session_id"] = (await succeed(client, "ssh_connect", LOGIN))["session_id"]
                return client.protocol_version

            await scenario(transport, "connect", connect)
            if session_id := told.get("session_id"):
                for body in (execute, progress, cancel, parallel):
                    await scenario(transport, body.__name__, lambda: body(client, session_id))
                await succeed(client, "ssh_disconnect", {"session_id": session_id})

    # Its end is a scenario too: a client that cannot be closed would hang its host.
    await scenario(transport, "close", work, 5 * BOUND)


async def main():
    await asyncio.gather(*(everything(*way) for way in WAYS))


asyncio.run(main())
HOME.cleanup()
sys.exit(1 if failures else 0)
