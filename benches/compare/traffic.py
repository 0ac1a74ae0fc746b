"""Both ends of the bytes that go through a forward. `python3 traffic.py` is the end behind it and prints its port."""

import socket
import struct
import sys
import threading

PIECE = 1 << 20
# What is asked for: the first byte of a connection; then a length.
TO, FROM, BOTH, ONE = b"t", b"f", b"b", b"1"


def send(stream, length):
    piece = memoryview(bytes(range(256)) * (PIECE // 256))
    while length:
        part = min(length, PIECE)
        stream.sendall(piece[:part])
        length -= part


def receive(stream, length):
    piece = bytearray(PIECE)
    while length:
        got = stream.recv_into(piece, min(length, PIECE))
        if not got:
            raise EOFError("the forward ended early")
        length -= got


def both(stream, length):
    sender = threading.Thread(target=send, args=(stream, length))
    sender.start()
    receive(stream, length)
    sender.join()


def exchange(port, what, length):
    """One connection to a forward: over when every byte has arrived, wherever it was to go."""
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.sendall(what + struct.pack("!Q", length))
        {TO: send, FROM: receive, BOTH: both, ONE: send}[what](stream, length)
        receive(stream, 1)


def serve(stream):
    with stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = stream.recv(9, socket.MSG_WAITALL)
        if len(head) < 9:
            return
        what, length = head[:1], struct.unpack("!Q", head[1:])[0]
        {TO: receive, FROM: send, BOTH: both, ONE: receive}[what](stream, length)
        stream.sendall(b".")


def main():
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(listener.getsockname()[1], flush=True)
        # Whoever started this ends it by closing its standard input.
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        sys.stdin.read()


def accept(listener):
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    main()
