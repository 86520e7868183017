"""A pytest fixture: a sandbox for each test session, clean for each test, with the vendor's Python SDK pointed at it.

Copy it next to your tests. It needs `imageshare` in the PATH (or its path in IMAGESHARE) and tencentcloud-sdk-python-cvm.
"""

import os
import subprocess
import urllib.request

import pytest
from tencentcloud.common.credential import Credential
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.cvm.v20170312.cvm_client import CvmClient


@pytest.fixture(scope="session")
def sandbox_address():
    command = [os.environ.get("IMAGESHARE", "imageshare"), "sandbox", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield line.removeprefix("listening on ").strip()
        process.terminate()


@pytest.fixture
def cvm(sandbox_address):
    """A CVM client for a sandbox without shares and faults."""
    urllib.request.urlopen(f"http://{sandbox_address}/_sandbox/reset", data=b"", timeout=10).close()
    http = HttpProfile(protocol="http", endpoint=sandbox_address)
    credential = Credential("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
    return CvmClient(credential, "ap-singapore", ClientProfile(httpProfile=http))
