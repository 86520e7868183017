"""The official command line against the sandbox."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from conftest import FULL_IMAGE, IMAGE, REGION, SECRET_ID, SECRET_KEY, UNKNOWN_ACCOUNT, UNKNOWN_IMAGE

TCCLI = pathlib.Path(sys.executable).with_name("tccli")


@pytest.fixture
def tccli(sandbox, tmp_path):
    """Runs it with a home of its own, so that nobody's profile is read or written."""

    def run(action, *arguments, secret_id=SECRET_ID, secret_key=SECRET_KEY):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TENCENTCLOUD_")}
        environment |= {
            "HOME": str(tmp_path),
            "TENCENTCLOUD_SECRET_ID": secret_id,
            "TENCENTCLOUD_SECRET_KEY": secret_key,
            "TENCENTCLOUD_REGION": REGION,
        }
        command = [TCCLI, "cvm", action, *arguments, "--endpoint", sandbox.url]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    return run


def modify(tccli, accounts, permission="SHARE", image=IMAGE, **keys):
    arguments = ["--ImageId", image, "--AccountIds", json.dumps(accounts), "--Permission", permission]
    return tccli("ModifyImageSharePermission", *arguments, **keys)


def check_done(run):
    assert run.returncode == 0, run.stdout + run.stderr
    answer = json.loads(run.stdout)
    assert answer["RequestId"]
    return answer


def check_refused(run, code):
    assert run.returncode != 0, run.stdout
    assert f"code:{code} " in run.stdout + run.stderr
    assert "requestId:" in run.stdout + run.stderr


def test_an_image_is_shared_listed_and_taken_back(sandbox, tccli):
    check_done(modify(tccli, ["1038493875", "100022975249"]))
    assert sandbox.shared() == ["100022975249", "1038493875"]
    assert "_CLI_" in sandbox.last_request()["client_tag"]
    answer = check_done(tccli("DescribeImageSharePermission", "--ImageId", IMAGE))
    assert [share["AccountId"] for share in answer["SharePermissionSet"]] == ["1038493875", "100022975249"]
    check_done(modify(tccli, ["1038493875"], "CANCEL"))
    assert sandbox.shared() == ["100022975249"]


def test_a_wrong_and_an_unknown_key_are_told_apart(sandbox, tccli):
    check_refused(modify(tccli, ["1038493875"], secret_key="wrong"), "AuthFailure.SignatureFailure")
    check_refused(modify(tccli, ["1038493875"], secret_id="AKIDUNKNOWN"), "AuthFailure.SecretIdNotFound")
    assert sandbox.shared() == []


def test_an_unknown_image_and_an_unknown_account_have_their_codes(sandbox, tccli):
    check_refused(modify(tccli, ["1038493875"], image=UNKNOWN_IMAGE), "InvalidImageId.NotFound")
    check_refused(modify(tccli, ["1038493875", UNKNOWN_ACCOUNT]), "InvalidAccountId.NotFound")
    assert sandbox.shared() == []


def test_an_image_takes_no_more_accounts_than_its_cap(tccli):
    check_refused(modify(tccli, ["1038493875"], image=FULL_IMAGE), "OverQuota")


def test_a_throttled_request_has_the_documented_code(sandbox, tccli):
    sandbox.set_faults(script=[{"action": "ModifyImageSharePermission", "do": "throttle"}])
    check_refused(modify(tccli, ["1038493875"]), "RequestLimitExceeded")
    check_done(modify(tccli, ["1038493875"]))
