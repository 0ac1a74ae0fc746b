"""asyncssh as one would use it from Python: `peer_asyncssh.py PORT USER KEY KNOWN_HOSTS`, in the virtual environment.

Answers each line of standard input with the seconds that it took: `execute` or `connect`.
"""

import asyncio
import sys
import time

import asyncssh


async def main(port, user, key, known_hosts):
    def connect():
        return asyncssh.connect("127.0.0.1", int(port), username=user, client_keys=[key], known_hosts=known_hosts,
                                config=None, agent_path=None)

    connection = await connect()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = line.strip()
        began = time.perf_counter()
        if order == "connect":
            other = await connect()
        else:
            ran = await connection.run("true")
            assert ran.exit_status == 0
        print(time.perf_counter() - began, flush=True)
        if order == "connect":
            other.close()
            await other.wait_closed()
    connection.close()


asyncio.run(main(*sys.argv[1:]))
