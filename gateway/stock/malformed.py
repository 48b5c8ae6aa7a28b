"""Sends damaged requests to the gateway: ADDRESS PID COUNT. It stays well, and has no more memory afterwards than before.

The requests are those of every protocol, with bytes changed, cut and repeated; the same ones in every run.
"""

import os
import random
import socket
import struct
import sys
import threading
import time
import urllib.request

ADDRESS, PID, COUNT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
HOST, PORT = ADDRESS.split(":")
SLACK_KIB = 8 * 1024  # what an allocator keeps for a while


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(*pairs):
    literal = b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in pairs)
    return b"\x83\x86" + literal  # POST, http


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
CALL = frame(1, 4, 1, headers((b":path", b"/demo.echo.Echo/GetNote"), (b":authority", b"a"), (b"content-type", b"application/grpc"), (b"te", b"trailers")))
SEEDS = [
    b'POST /v1/notes?noteId=9 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{"title":"ab"}',
    b"POST /v1/notes:collect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[{},{\r\n2\r\n}]\r\n0\r\n\r\n",
    b"POST /v1/notes HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
    b"POST /demo.echo.Echo/GetNote HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web-text\r\nContent-Length: 16\r\n\r\nAAAAAAcKBW5vdGVz",
    b"POST /demo.echo.Echo/GetNote HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web\r\nContent-Length: 10\r\n\r\n\0\0\0\0\x05\x0a\x03abc",
    b"GET /v1/notes:watch?count=3 HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n",
    b"GET /demo.echo.Echo/Chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x81\x82\0\0\0\0{}\x88\x80\0\0\0\0",
    PREFACE + CALL + frame(0, 1, 1, b"\0\0\0\0\x09\x0a\x07notes/1"),
    PREFACE + CALL + frame(0, 0, 1, b"\0\xff\xff\xff\xff") + frame(3, 0, 1, b"\0\0\0\x08"),
    PREFACE + b"".join(CALL[:5] + struct.pack(">I", stream) + CALL[9:] + frame(3, 0, stream, b"\0\0\0\x08") for stream in range(1, 41, 2)),
]


def damaged(seed, dice):
    data = bytearray(seed)
    for _ in range(dice.randint(1, 5)):
        at = dice.randrange(len(data))
        kind = dice.randrange(4)
        if kind == 0:
            data[at] = dice.randrange(256)
        elif kind == 1:
            data[at] ^= 1 << dice.randrange(8)
        elif kind == 2:
            del data[max(at, 1):]
        else:
            data[at:at] = data[at:dice.randrange(at, min(len(data), at + 20)) + 1]
    return bytes(data)


def send(data):
    try:
        with socket.create_connection((HOST, int(PORT)), timeout=30) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            # The end of the answer, but nobody waits for an answer that is none.
            connection.settimeout(0.2)
            while connection.recv(65536):
                pass
    except OSError:
        pass


def storm(seed, count):
    def work(part):
        dice = random.Random(seed * 100 + part)
        for _ in range(count // 8):
            send(damaged(dice.choice(SEEDS), dice))

    threads = [threading.Thread(target=work, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def resident():
    with open(f"/proc/{PID}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def is_socket(descriptor):
    try:
        return os.readlink(descriptor).startswith("socket:")
    except FileNotFoundError:  # closed since it was listed
        return False


def sockets():
    return sum(1 for name in os.listdir(f"/proc/{PID}/fd") if is_socket(f"/proc/{PID}/fd/{name}"))


def well():
    with urllib.request.urlopen(f"http://{ADDRESS}/v1/notes/7", timeout=30) as answer:
        assert answer.status == 200


def settled(wanted, what, of, deadline=120):
    """Waits until it is at most what it was."""
    end = time.monotonic() + deadline
    while of() > wanted:
        assert time.monotonic() < end, f"{what}: {of()} instead of {wanted}"
        time.sleep(0.2)


well()
open_before = sockets()
storm(1, 2000)  # buffers and caches have their size then
well()
settled(open_before + 2, "sockets", sockets)
before = resident()
storm(2, COUNT)
well()
settled(open_before + 2, "sockets", sockets)
settled(before + SLACK_KIB, "KiB of memory", resident)
print(f"client of nobody's make, {COUNT} damaged requests, {before} KiB before, {resident()} KiB after: ok", flush=True)
