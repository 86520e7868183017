"""Fixtures: a sandbox, and the vendor's clients, which are the Python SDK with every signature and the command line."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.cvm.v20170312 import cvm_client
from tencentcloud.cvm.v20170312 import models as cvm_models
from tencentcloud.sts.v20180813 import models as sts_models
from tencentcloud.sts.v20180813 import sts_client

# The machine's proxy must not apply to the loopback.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"

REGION = "ap-singapore"
SERVICES = {"cvm": (cvm_client.CvmClient, cvm_models), "sts": (sts_client.StsClient, sts_models)}
SIGNATURES = [(kind, method) for kind in ("TC3-HMAC-SHA256", "HmacSHA1", "HmacSHA256") for method in ("POST", "GET")]
TCCLI = ("TC3-HMAC-SHA256", "tccli")


@dataclass(frozen=True)
class Client:
    """A client with a key. `call` returns the response as a dict, and raises the SDK's exception."""

    url: str
    home: Path
    algorithm: str
    method: str
    secret_id: str = "AKIDSANDBOXEXAMPLE"
    secret_key: str = "sandbox-secret-key-example"
    token: str = ""

    def call(self, action, service="cvm", **parameters):
        call = self.call_command if self.method == "tccli" else self.call_sdk
        return call(service, action, parameters)

    def call_sdk(self, service, action, parameters):
        client, models = SERVICES[service]
        host = self.url.removeprefix("http://")
        http = HttpProfile(protocol="http", endpoint=host, reqMethod=self.method, reqTimeout=30)
        profile = ClientProfile(signMethod=self.algorithm, httpProfile=http)
        request = getattr(models, f"{action}Request")()
        request.from_json_string(json.dumps(parameters))
        client = client(Credential(self.secret_id, self.secret_key, self.token or None), REGION, profile)
        return json.loads(getattr(client, action)(request).to_json_string())

    def call_command(self, service, action, parameters):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TENCENTCLOUD_")}
        # With the developer's home it would use their profile.
        environment |= {"HOME": str(self.home), "TENCENTCLOUD_REGION": REGION}
        environment |= {"TENCENTCLOUD_SECRET_ID": self.secret_id, "TENCENTCLOUD_SECRET_KEY": self.secret_key}
        if self.token:
            environment["TENCENTCLOUD_TOKEN"] = self.token
        command = [Path(sys.executable).with_name("tccli"), service, action, "--endpoint", self.url]
        for name, value in parameters.items():
            command += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        if error := re.search(r"code:(\S+) message:(.*) requestId:(\S+)", run.stdout + run.stderr, re.DOTALL):
            assert run.returncode != 0
            raise TencentCloudSDKException(*error.groups())
        assert run.returncode == 0, run.stdout + run.stderr
        return json.loads(run.stdout)


@pytest.fixture(scope="session")
def ca_file(tmp_path_factory):
    """The certificate of the sandbox's authority, once the sandbox runs."""
    return tmp_path_factory.mktemp("authority") / "ca.pem"


@pytest.fixture(scope="session")
def sandbox_url(ca_file):
    repository = Path(__file__).resolve().parents[2]
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    command = [target / "debug" / "imageshare", "sandbox", "--listen", "127.0.0.1:0", "--world", "examples/world.toml"]
    command += ["--tls-ca", ca_file]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) as process:
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


@pytest.fixture(params=[*SIGNATURES, TCCLI], ids="-".join)
def client(request, sandbox_url, tmp_path):
    return Client(sandbox_url, tmp_path, *request.param)
