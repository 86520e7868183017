"""A sandbox that runs already, as both official clients see it.

The environment variable SANDBOX_URL is its address, such as http://127.0.0.1:9700. It must have been started with
`imageshare sandbox --world examples/world.toml` and otherwise by default: 10 requests a second, cap 500.
"""

import json
import os
import urllib.parse
import urllib.request

import pytest

# A proxy of the machine must not stand between a client and its loopback.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"

SECRET_ID = "AKIDSANDBOXEXAMPLE"
SECRET_KEY = "sandbox-secret-key-example"
REGION = "ap-singapore"

IMAGE = "img-6pb6lrmy"
FULL_IMAGE = "img-fu11c0de"
UNKNOWN_IMAGE = "img-00000000"
UNKNOWN_ACCOUNT = "100000000404"


class Sandbox:
    """The interface of the sandbox itself."""

    def __init__(self, url):
        self.url = url
        self.host = urllib.parse.urlsplit(url).netloc

    def reset(self):
        self._ask("reset", b"")

    def set_faults(self, **faults):
        self._ask("faults", json.dumps(faults).encode())

    def shared(self, image=IMAGE):
        return self._ask("state")["images"].get(image, [])

    def last_request(self):
        return self._ask("requests?last=1")["requests"][0]

    def stats(self):
        return self._ask("stats")

    def _ask(self, path, body=None):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/_sandbox/{path}", data=body, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture
def sandbox():
    """The sandbox, its world as at the start."""
    url = os.environ.get("SANDBOX_URL")
    if not url:
        pytest.fail("SANDBOX_URL is not set; it must be the address of a running sandbox, such as http://127.0.0.1:9700")
    sandbox = Sandbox(url.rstrip("/"))
    sandbox.reset()
    return sandbox
