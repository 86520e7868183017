"""The sandbox of all tests: `target/debug/imageshare sandbox --world examples/world.toml`."""

import json
import os
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

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


@pytest.fixture(scope="session")
def sandbox_url():
    repository = Path(__file__).resolve().parent.parent.parent
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    command = [target / "debug" / "imageshare", "sandbox", "--listen", "127.0.0.1:0", "--world", "examples/world.toml"]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) as process:
        listening = process.stdout.readline()
        assert listening.startswith("listening on "), listening
        yield f"http://{listening.removeprefix('listening on ').strip()}"
        process.terminate()


@pytest.fixture
def sandbox(sandbox_url):
    """The sandbox with its initial world."""
    sandbox = Sandbox(sandbox_url)
    sandbox.reset()
    return sandbox
