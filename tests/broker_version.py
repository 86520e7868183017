"""Prints the version of the broker that IMAGESHARE_TEST_BROKER names. Exits with an error if the tests cannot use it."""

import sys
from urllib.parse import unquote, urlsplit

import amqp


def main(address):
    url = urlsplit(address)
    if url.scheme != "amqp" or not url.hostname:
        sys.exit("error: IMAGESHARE_TEST_BROKER: invalid address (expected amqp://user:password@localhost:port/vhost)")
    if url.hostname not in ("localhost", "127.0.0.1"):
        sys.exit("error: IMAGESHARE_TEST_BROKER: the broker is on another machine (expected localhost)")
    user, password, vhost = (unquote(part or "") for part in (url.username, url.password, url.path[1:]))
    login = {"userid": user or "guest", "password": password or "guest", "virtual_host": vhost or "/"}
    try:
        with amqp.Connection(f"{url.hostname}:{url.port or 5672}", connect_timeout=5, **login) as connection:
            version = connection.server_properties["version"]
    except (amqp.AMQPError, OSError, ValueError) as error:
        sys.exit(f"error: IMAGESHARE_TEST_BROKER: cannot use the broker ({error})")
    if [int(part) for part in version.split(".")[:2]] < [3, 10]:
        sys.exit(f"error: IMAGESHARE_TEST_BROKER is RabbitMQ {version} (expected 3.10 or later)")
    print(f"RabbitMQ {version}")


main(sys.argv[1])
