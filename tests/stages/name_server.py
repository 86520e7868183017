#!/usr/bin/env python3
"""A name server on 127.0.0.1:53 that knows one name: name_server.py NAME answers 127.0.0.1 for it, and of every other
name that there is none. It says `ready` when it is."""

import socket
import sys

QUESTION_AT = 12
ADDRESS = 1


def main():
    wanted = b"".join(bytes([len(label)]) + label for label in sys.argv[1].encode().split(b".")) + b"\0"
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    print("ready", flush=True)
    while True:
        query, client = server.recvfrom(512)
        server.sendto(answer(query, wanted), client)


def answer(query, wanted):
    """RFC 1035, section 4.1: the query's number and question, and the address where there is one."""
    name_end = query.index(b"\0", QUESTION_AT) + 1
    name, kind = query[QUESTION_AT:name_end].lower(), int.from_bytes(query[name_end : name_end + 2], "big")
    known = name == wanted
    found = int(known and kind == ADDRESS)
    header = query[:2] + (b"\x81\x80" if known else b"\x81\x83") + bytes([0, 1, 0, found, 0, 0, 0, 0])
    # The name again, as where it stands; type and class; a minute; the address.
    record = b"\xc0\x0c\0\1\0\1" + bytes([0, 0, 0, 60, 0, 4]) + socket.inet_aton("127.0.0.1")
    return header + query[QUESTION_AT : name_end + 4] + record * found


if __name__ == "__main__":
    main()
