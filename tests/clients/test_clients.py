"""Clients against the sandbox. Each test runs with every client of conftest.py."""

import re
from dataclasses import replace
from http.client import HTTPSConnection

import pytest
from conftest import Refused, clients

IMAGE = "img-6pb6lrmy"
FULL_IMAGE = "img-fu11c0de"
UNKNOWN_IMAGE = "img-00000000"
ACCOUNT = "1038493875"
UNKNOWN_ACCOUNT = "100000000404"

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def modify(client, *accounts, permission="SHARE", image=IMAGE):
    parameters = {"ImageId": image, "AccountIds": list(accounts), "Permission": permission}
    response = client.call("ModifyImageSharePermission", **parameters)
    assert UUID.fullmatch(response["RequestId"])


def listed(client, image=IMAGE):
    response = client.call("DescribeImageSharePermission", ImageId=image)
    assert UUID.fullmatch(response["RequestId"])
    for share in response["SharePermissionSet"]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", share["CreatedTime"])
    return [share["AccountId"] for share in response["SharePermissionSet"]]


def shared(sandbox):
    return list(sandbox("state")["shares"].get(IMAGE, {}))


def check_refused(code, call, *arguments, words="", **named):
    with pytest.raises(Refused) as refusal:
        call(*arguments, **named)
    assert refusal.value.code == code
    assert re.search(words, refusal.value.message)
    assert UUID.fullmatch(refusal.value.request_id)


@clients()
def test_client_shares_lists_and_cancels(sandbox, client):
    accounts = [str(100044440001 + number) for number in range(12)]
    modify(client, *accounts)
    assert shared(sandbox) == listed(client) == accounts
    check_refused("FailedOperation.AccountAlreadyExists", modify, client, accounts[0])
    modify(client, *accounts[1:], permission="CANCEL")
    assert shared(sandbox) == listed(client) == accounts[:1]
    response = client.call("DescribeImages", ImageIds=[IMAGE, "img-qlzp4oea", UNKNOWN_IMAGE])
    assert response["TotalCount"] == 2
    assert {"ImageId": IMAGE, "ImageState": "NORMAL"}.items() <= response["ImageSet"][0].items()
    request = sandbox("requests?last=1")["requests"][0]
    assert request["signature_version"] == client.signature


@clients(has_key=True)
def test_wrong_and_unknown_keys_have_different_codes(sandbox, client):
    wrong, unknown = replace(client, secret_key="wrong"), replace(client, secret_id="AKIDUNKNOWN")
    check_refused("AuthFailure.SignatureFailure", modify, wrong, ACCOUNT)
    check_refused("AuthFailure.SecretIdNotFound", modify, unknown, ACCOUNT)
    assert shared(sandbox) == []


@clients()
def test_refused_images_and_accounts_have_their_codes(sandbox, client):
    check_refused("InvalidImageId.NotFound", modify, client, ACCOUNT, image=UNKNOWN_IMAGE, words=UNKNOWN_IMAGE)
    check_refused("InvalidImageId.NotFound", listed, client, image=UNKNOWN_IMAGE)
    check_refused("InvalidAccountId.NotFound", modify, client, ACCOUNT, UNKNOWN_ACCOUNT, words=UNKNOWN_ACCOUNT)
    check_refused("OverQuota", modify, client, ACCOUNT, image=FULL_IMAGE, words="500")
    assert len(listed(client, FULL_IMAGE)) == 500
    sandbox("faults", {"script": [{"action": "ModifyImageSharePermission", "do": "throttle"}]})
    # Some clients ask for Chinese.
    words = "equals to `11` in a second|每秒请求`11`次，超过了每秒频率上限`10`次"
    check_refused("RequestLimitExceeded", modify, client, ACCOUNT, words=words)
    assert shared(sandbox) == []


@clients(has_sts=True)
def test_key_of_a_role_needs_its_token(sandbox, client):
    role = {"RoleArn": "qcs::cam::uin/100009999999:roleName/share", "RoleSessionName": "imageshare"}
    key = client.call("AssumeRole", "sts", **role)["Credentials"]
    assumed = replace(client, secret_id=key["TmpSecretId"], secret_key=key["TmpSecretKey"], token=key["Token"])
    modify(assumed, ACCOUNT)
    assert shared(sandbox) == [ACCOUNT]
    check_refused("AuthFailure.TokenFailure", modify, replace(assumed, token="other"), "20000")
    assert client.call("GetCallerIdentity", "sts")["AccountId"] == "100009999999"


@clients(has_organization=True)
def test_client_lists_the_organization(sandbox, client):
    def items(action, member, limit=50):
        response = client.call(action, "organization", Offset=0, Limit=limit)
        assert UUID.fullmatch(response["RequestId"])
        return [item[member] for item in response["Items"]]

    assert client.call("DescribeOrganization", "organization")["HostUin"] == 100009999999
    assert items("DescribeOrganizationNodes", "Name") == ["Root", "Production", "Test"]
    assert items("DescribeOrganizationMembers", "MemberUin", limit=2) == [100009999999, 1038493875]
    check_refused("InvalidParameter", items, "DescribeOrganizationMembers", "MemberUin", limit=51)


def test_proxy_forwards_nothing(sandbox_url):
    names = ["example.com", "cos.tencentcloudapi.com", "cam.tencentcloudapi.com", "cvm.tencentcloudapi.com.example.com"]
    names += ["localhost", "127.0.0.1", "169.254.0.23", "cvm.tencentcloudapi.com:22", "cvm.tencentcloudapi.com:8443"]
    for name in [*names, "metadata.tencentyun.com:8080"]:
        connection = HTTPSConnection(sandbox_url.removeprefix("http://"), timeout=30)
        host, _, port = name.partition(":")
        connection.set_tunnel(host, int(port or 443))
        with pytest.raises(OSError, match="403"):
            connection.connect()
