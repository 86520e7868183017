"""Says which RabbitMQ IMAGESHARE_TEST_BROKER names. Ends with one sentence if it cannot be used.

It logs in as AMQP 0-9-1 describes (connection.start to connection.open-ok), by itself: nothing is installed yet.
"""

import re
import socket
import struct
import sys
import urllib.parse

OLDEST = (3, 10)
SECONDS = 5


def method(stream: socket.socket) -> bytes:
    """The payload of the next frame of channel 0."""
    head = read(stream, 7)
    return read(stream, struct.unpack(">I", head[3:])[0] + 1)[:-1]


def read(stream: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = stream.recv(length - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def send(stream: socket.socket, payload: bytes) -> None:
    stream.sendall(struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce")


def log_in(stream: socket.socket, user: str, password: str, vhost: str) -> str:
    """Logs in and gives the version. Raises EOFError where the broker ends the connection."""
    stream.sendall(b"AMQP\0\0\x09\x01")
    start = method(stream)
    if found := re.search(rb"\x07versionS....(\d+\.\d+(?:\.\d+)?)", start, re.DOTALL):
        version = found[1].decode()
    else:
        sys.exit("error: IMAGESHARE_TEST_BROKER names a broker that does not say its version (expected RabbitMQ)")
    plain = f"\0{user}\0{password}".encode()
    send(stream, struct.pack(">HHI", 10, 11, 0) + b"\x05PLAIN" + struct.pack(">I", len(plain)) + plain + b"\x05en_US")
    tune = method(stream)
    send(stream, struct.pack(">HH", 10, 31) + tune[4:])
    name = vhost.encode()
    send(stream, struct.pack(">HHB", 10, 40, len(name)) + name + b"\0\0")
    if method(stream)[:4] != struct.pack(">HH", 10, 41):
        raise EOFError
    return version


def main() -> None:
    url = urllib.parse.urlsplit(sys.argv[1])
    try:
        host, port = url.hostname, url.port or 5672
    except ValueError:
        host, port = None, 0
    if url.scheme != "amqp" or not host:
        sys.exit("error: IMAGESHARE_TEST_BROKER is no address (expected amqp://user:password@localhost:port/vhost)")
    if host not in ("localhost", "127.0.0.1"):
        sys.exit("error: IMAGESHARE_TEST_BROKER is on another machine; the tests send their load to this one only")
    vhost = urllib.parse.unquote(url.path[1:]) or "/"
    user, password = (urllib.parse.unquote(part or "guest") for part in (url.username, url.password))
    try:
        with socket.create_connection((host, port), SECONDS) as stream:
            stream.settimeout(SECONDS)
            version = log_in(stream, user, password, vhost)
    except (EOFError, ConnectionResetError):
        sys.exit(f"error: the broker at {host}:{port} refuses user, password or virtual host of IMAGESHARE_TEST_BROKER")
    except OSError as error:
        sys.exit(f"error: IMAGESHARE_TEST_BROKER: no broker answers at {host}:{port} ({error})")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        sys.exit(f"error: the broker at {host}:{port} is RabbitMQ {version} (expected 3.10 or later)")
    print(f"RabbitMQ {version} at {host}:{port}")


main()
