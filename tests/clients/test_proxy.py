"""Clients with production endpoints, which reach the sandbox as an HTTP(S) proxy."""

import base64
import hashlib
import hmac
import json
import subprocess
import time

import pytest
from conftest import REGION, SERVICES
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

IMAGE = "img-6pb6lrmy"
ACCOUNT = "1038493875"
KEY = ("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")


def call(service, action, ca_file, root_domain=None, **parameters):
    client, models = SERVICES[service]
    http = HttpProfile(certification=str(ca_file), rootDomain=root_domain, reqTimeout=30)
    request = getattr(models, f"{action}Request")()
    request.from_json_string(json.dumps(parameters))
    client = client(Credential(*KEY), REGION, ClientProfile(httpProfile=http))
    return json.loads(getattr(client, action)(request).to_json_string())


@pytest.mark.parametrize("root_domain", [None, "intl.tencentcloudapi.com", "ap-singapore.tencentcloudapi.com"])
def test_sdk_with_production_endpoint_uses_the_proxy(sandbox, sandbox_url, ca_file, monkeypatch, root_domain):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HTTPS_PROXY", sandbox_url)
    monkeypatch.setenv("https_proxy", sandbox_url)
    share = {"ImageId": IMAGE, "AccountIds": [ACCOUNT], "Permission": "SHARE"}
    call("cvm", "ModifyImageSharePermission", ca_file, root_domain, **share)
    assert sandbox("state")["images"][IMAGE] == [ACCOUNT]
    with pytest.raises(TencentCloudSDKException) as refusal:
        call("cvm", "ModifyImageSharePermission", ca_file, root_domain, **share)
    assert refusal.value.get_code() == "FailedOperation.AccountAlreadyExists"
    assert call("sts", "GetCallerIdentity", ca_file, root_domain)["AccountId"] == "100009999999"
    host = sandbox("requests?last=1")["requests"][0]["host"]
    assert host == f"sts.{root_domain or 'tencentcloudapi.com'}"


def curl(*arguments):
    command = ["curl", "--silent", "--show-error", "--noproxy", "", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def signed_form(host):
    pairs = {
        "Action": "DescribeImageSharePermission",
        "ImageId": "img-qlzp4oea",
        "Nonce": "11886",
        "Region": REGION,
        "SecretId": KEY[0],
        "Timestamp": str(int(time.time())),
        "Version": "2017-03-12",
    }
    text = f"POST{host}/?" + "&".join(f"{name}={value}" for name, value in sorted(pairs.items()))
    pairs["Signature"] = base64.b64encode(hmac.digest(KEY[1].encode(), text.encode(), hashlib.sha1)).decode()
    return [argument for pair in pairs.items() for argument in ("--data-urlencode", "=".join(pair))]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_curl_sends_a_form_through_the_proxy(sandbox, sandbox_url, ca_file, scheme):
    host = "cvm.tencentcloudapi.com"
    expect = ["--header", "Expect: 100-continue"]
    run = curl("--proxy", sandbox_url, "--cacert", str(ca_file), *expect, *signed_form(host), f"{scheme}://{host}/")
    assert run.returncode == 0, run.stderr
    assert len(json.loads(run.stdout)["Response"]["SharePermissionSet"]) == 44


def test_proxy_forwards_nothing(sandbox_url, ca_file):
    for url in ("https://example.com/", "https://cvm.tencentcloudapi.com:8443/", "https://cos.tencentcloudapi.com/"):
        run = curl("--proxy", sandbox_url, "--cacert", str(ca_file), url)
        assert run.returncode != 0
        assert "403" in run.stderr, run.stderr
