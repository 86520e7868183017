"""The vendor's clients against the sandbox. Each test runs with every client of conftest.py."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from conftest import SIGNATURES
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

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
    return sandbox("state")["images"].get(IMAGE, [])


def check_refused(code, call, *arguments, words="", **named):
    with pytest.raises(TencentCloudSDKException) as refusal:
        call(*arguments, **named)
    assert refusal.value.get_code() == code
    assert words in refusal.value.get_message()
    assert UUID.fullmatch(refusal.value.get_request_id())


def test_share_list_and_cancel_work(sandbox, client):
    accounts = [str(100044440001 + number) for number in range(12)]
    modify(client, *accounts)
    assert shared(sandbox) == accounts
    assert listed(client) == accounts
    modify(client, *accounts[1:], permission="CANCEL")
    assert shared(sandbox) == listed(client) == accounts[:1]
    request = sandbox("requests?last=1")["requests"][0]
    assert request["signature_version"] == ("TC3" if client.algorithm.startswith("TC3") else "v1")
    assert request["client_tag"].startswith("SDK_PYTHON_")
    assert ("_CLI_" in request["client_tag"]) == (client.method == "tccli")


def test_wrong_and_unknown_keys_have_different_codes(sandbox, client):
    wrong, unknown = replace(client, secret_key="wrong"), replace(client, secret_id="AKIDUNKNOWN")
    check_refused("AuthFailure.SignatureFailure", modify, wrong, ACCOUNT)
    check_refused("AuthFailure.SecretIdNotFound", modify, unknown, ACCOUNT)
    assert shared(sandbox) == []


def test_refused_images_and_accounts_have_their_codes(sandbox, client):
    check_refused("InvalidImageId.NotFound", modify, client, ACCOUNT, image=UNKNOWN_IMAGE)
    check_refused("InvalidImageId.NotFound", listed, client, image=UNKNOWN_IMAGE)
    check_refused("InvalidAccountId.NotFound", modify, client, ACCOUNT, UNKNOWN_ACCOUNT, words=UNKNOWN_ACCOUNT)
    check_refused("OverQuota", modify, client, ACCOUNT, image=FULL_IMAGE, words="500")
    assert len(listed(client, FULL_IMAGE)) == 500
    assert shared(sandbox) == []


def test_faults_of_the_sandbox_reach_the_client(sandbox, client):
    for fault, code in (("http_500", "ServerNetworkError"), ("throttle", "RequestLimitExceeded")):
        sandbox("faults", {"script": [{"action": "ModifyImageSharePermission", "do": fault}]})
        with pytest.raises(TencentCloudSDKException) as refusal:
            modify(client, ACCOUNT)
        assert refusal.value.get_code() == code
        assert shared(sandbox) == []
    modify(client, ACCOUNT)


# The command line starts too slowly for more than ten requests per second.
@pytest.mark.parametrize("client", SIGNATURES, indirect=True, ids="-".join)
def test_more_than_ten_requests_a_second_are_throttled(sandbox, client):
    def code(_):
        try:
            listed(client)
            return "ok"
        except TencentCloudSDKException as refusal:
            assert UUID.fullmatch(refusal.get_request_id())
            if refusal.get_code() == "RequestLimitExceeded":
                # The SDK asks for Chinese.
                assert re.search(r"每秒请求`\d+`次，超过了每秒频率上限`10`次", str(refusal))
            return refusal.get_code()

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(code, range(80))) == {"ok", "RequestLimitExceeded"}
    assert sandbox("stats")["max_in_any_second"]["DescribeImageSharePermission"] > 10


def test_images_are_described_by_id_and_by_name(sandbox, client):
    response = client.call("DescribeImages", ImageIds=[IMAGE, "img-qlzp4oea", UNKNOWN_IMAGE])
    assert response["TotalCount"] == 2
    expected = {"ImageId": IMAGE, "ImageState": "NORMAL", "ImageType": "PRIVATE_IMAGE"}
    assert response["ImageSet"][0].items() >= expected.items()
    name = {"Name": "image-name", "Values": ["golden-2026.10-singapore"]}
    response = client.call("DescribeImages", Filters=[name])
    assert [image["ImageId"] for image in response["ImageSet"]] == ["img-qlzp4oea"]


def test_key_of_a_role_needs_its_token(sandbox, client):
    role = {"RoleArn": "qcs::cam::uin/100009999999:roleName/share", "RoleSessionName": "imageshare"}
    key = client.call("AssumeRole", "sts", **role)["Credentials"]
    assumed = replace(client, secret_id=key["TmpSecretId"], secret_key=key["TmpSecretKey"], token=key["Token"])
    modify(assumed, ACCOUNT)
    assert shared(sandbox) == [ACCOUNT]
    check_refused("AuthFailure.TokenFailure", modify, replace(assumed, token="other"), "20000")
    assert client.call("GetCallerIdentity", "sts")["AccountId"] == "100009999999"
