"""Fixtures: a sandbox, and the clients, each of which is a program of examples/clients that stays for the session."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = REPOSITORY / "examples" / "clients"
# The folder with the packages of the clients that `tests/deploy clients` tests. Without it, the tests run with the others.
FOLDER = os.environ.get("TEST_CLIENTS")

# The machine's settings must apply neither to the requests of this process nor to those of the clients.
for name in list(os.environ):
    if name.upper().endswith("_PROXY") or name.startswith("TENCENTCLOUD_"):
        del os.environ[name]


class Refused(Exception):
    def __init__(self, code, message, request_id):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.request_id = code, message, request_id


@dataclass(frozen=True)
class Client:
    """A client with a key. `call` returns the response as a dict, or raises `Refused`."""

    name: str
    command: list
    # How it is pointed at the sandbox: as an endpoint, or by variables of its environment.
    proxy: dict = field(default_factory=dict)
    # Whether it takes a key with each request, and whether it has STS too.
    has_key: bool = True
    has_sts: bool = True
    secret_id: str = "AKIDSANDBOXEXAMPLE"
    secret_key: str = "sandbox-secret-key-example"
    token: str = ""
    process: subprocess.Popen = None

    @property
    def signature(self):
        return "v1" if {"HmacSHA1", "HmacSHA256", "bash"} & set(self.command) else "TC3"

    @property
    def has_organization(self):
        return self.name.startswith(("python", "tccli", "node-international"))

    def start(self, address, ca_file):
        environment = os.environ | {"SSL_CERT_FILE": str(ca_file), "NODE_EXTRA_CA_CERTS": str(ca_file)}
        # With the developer's home, a client would use the profile there.
        environment |= {"HOME": str(ca_file.parent), "NODE_FOLDER": f"{FOLDER}/client-node"}
        fill = {"ADDRESS": address, "CA_FILE": str(ca_file)}
        filled = {name: value.format_map(fill) for name, value in self.proxy.items()}
        environment |= filled or {"ENDPOINT": address}
        command = [str(word).format_map(fill) for word in self.command]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        return replace(self, process=process)

    def call(self, action, service="cvm", **parameters):
        common = {"secret_id": self.secret_id, "secret_key": self.secret_key, "token": self.token}
        request = {"service": service, "action": action, "parameters": parameters, "region": "ap-singapore"} | common
        line = json.dumps(request)
        if "bash" in self.command:
            pairs = {"Action": action, "Region": "ap-singapore", "Version": "2017-03-12"}
            for name, value in parameters.items():
                pairs |= {f"{name}.{n}": v for n, v in enumerate(value)} if isinstance(value, list) else {name: value}
            line = " ".join([self.secret_id, self.secret_key] + [f"{name}={value}" for name, value in pairs.items()])
        print(line, file=self.process.stdin, flush=True)
        response = json.loads(self.process.stdout.readline())
        response = response.get("Response", response)
        if error := response.get("Error"):
            raise Refused(error["Code"], error["Message"], response["RequestId"])
        return response


def light_clients():
    """The vendor's Python SDK with every signature and by proxy, and its command line."""
    python = [sys.executable, PROGRAMS / "python.py"]
    for algorithm in ("TC3-HMAC-SHA256", "HmacSHA1", "HmacSHA256"):
        for method in ("POST", "GET"):
            yield Client(f"python-{algorithm}-{method}", [*python, algorithm, method])
    yield Client("tccli", [*python, "tccli"])
    yield from python_by_proxy("python", sys.executable)


def python_by_proxy(name, python):
    command = [python, PROGRAMS / "python.py", "TC3-HMAC-SHA256", "POST"]
    proxy = {"HTTPS_PROXY": "http://{ADDRESS}"}
    yield Client(f"{name}-proxy", command, proxy)
    for domain in ("intl.tencentcloudapi.com", "ap-singapore.tencentcloudapi.com"):
        yield Client(f"{name}-proxy-{domain}", command, proxy | {"ROOT_DOMAIN": domain})


def heavy_clients():
    """The clients whose packages `tests/deploy clients` installs."""
    python = [f"{FOLDER}/python-client-international/bin/python", PROGRAMS / "python.py"]
    yield Client("python-international", [*python, "TC3-HMAC-SHA256", "POST"])
    yield Client("tccli-international", [*python, "tccli"])
    yield from python_by_proxy("python-international", python[0])
    for site in ("china", "international"):
        node = ["node", PROGRAMS / "node.mjs", site]
        yield Client(f"node-{site}", node)
        yield Client(f"node-{site}-proxy", node, {"http_proxy": "http://{ADDRESS}"})
    curl = ["bash", PROGRAMS / "curl.sh"]
    by_proxy = ["--proxy", "http://{ADDRESS}", "--cacert", "{CA_FILE}", "--header", "Expect: 100-continue"]
    yield Client("curl", [*curl, "http://{ADDRESS}/"], has_sts=False)
    for scheme in ("http", "https"):
        command = [*curl, *by_proxy, f"{scheme}://cvm.tencentcloudapi.com/"]
        yield Client(f"curl-proxy-{scheme}", command, has_sts=False)
    rust = f"{FOLDER}/client-rust/target/debug/client"
    yield Client("rust", [rust, "key"])
    yield Client("rust-assume_role", [rust, "assume_role"], has_sts=False)
    for source in ("oidc", "instance_role"):
        yield Client(f"rust-{source}", [rust, source], has_key=False, has_sts=False)


CLIENTS = list(heavy_clients() if FOLDER else light_clients())


def clients(**attributes):
    """Selects the clients with these attributes for a test."""
    selected = [one for one in CLIENTS if all(getattr(one, name) == value for name, value in attributes.items())]
    return pytest.mark.parametrize("client", selected, ids=lambda client: client.name, indirect=True, scope="session")


@pytest.fixture(scope="session")
def ca_file(tmp_path_factory):
    """The certificate of the sandbox's authority, once the sandbox runs."""
    return tmp_path_factory.mktemp("authority") / "ca.pem"


@pytest.fixture(scope="session")
def sandbox_url(ca_file):
    world = ca_file.with_name("world.toml")
    example = (REPOSITORY / "examples" / "world.toml").read_text()
    world.write_text(f'{example}\n[instance_role]\nname = "imageshare"\n')
    target = REPOSITORY / os.environ.get("CARGO_TARGET_DIR", "target")
    command = [target / "debug" / "imageshare", "sandbox", "--listen", "127.0.0.1:0", "--world", world]
    with subprocess.Popen([*command, "--tls-ca", ca_file], stdout=subprocess.PIPE, text=True) as process:
        listening = process.stdout.readline()
        assert listening.startswith("listening on "), listening
        yield f"http://{listening.removeprefix('listening on ').strip()}"
        process.terminate()


@pytest.fixture
def sandbox(sandbox_url):
    """Sends a request to the sandbox's own interface, after a reset of its world."""

    def ask(path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{sandbox_url}/_sandbox/{path}", data=data, timeout=30) as response:
            return json.load(response)

    ask("reset", {})
    return ask


@pytest.fixture(scope="session")
def client(request, sandbox_url, ca_file):
    client = request.param.start(sandbox_url.removeprefix("http://"), ca_file)
    with client.process:
        yield client
