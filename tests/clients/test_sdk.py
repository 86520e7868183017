"""The official Python SDK against the sandbox."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import FULL_IMAGE, IMAGE, REGION, SECRET_ID, SECRET_KEY, UNKNOWN_ACCOUNT, UNKNOWN_IMAGE
from tencentcloud.common import credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.cvm.v20170312 import cvm_client, models
from tencentcloud.sts.v20180813 import models as sts_models
from tencentcloud.sts.v20180813 import sts_client

SIGNATURES = [
    ("TC3-HMAC-SHA256", "POST"),
    ("TC3-HMAC-SHA256", "GET"),
    ("HmacSHA1", "POST"),
    ("HmacSHA1", "GET"),
    ("HmacSHA256", "POST"),
    ("HmacSHA256", "GET"),
]

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

every_signature = pytest.mark.parametrize("signature", SIGNATURES, ids="-".join)


def client(sandbox, signature=SIGNATURES[0], secret_id=SECRET_ID, secret_key=SECRET_KEY, token=None, kind=None):
    algorithm, method = signature
    http = HttpProfile(protocol="http", endpoint=sandbox.host, reqMethod=method, reqTimeout=30)
    profile = ClientProfile(signMethod=algorithm, httpProfile=http)
    kind = kind or cvm_client.CvmClient
    return kind(credential.Credential(secret_id, secret_key, token), REGION, profile)


def modify(client, accounts, permission="SHARE", image=IMAGE):
    request = models.ModifyImageSharePermissionRequest()
    request.ImageId, request.AccountIds, request.Permission = image, accounts, permission
    answer = client.ModifyImageSharePermission(request)
    assert UUID.fullmatch(answer.RequestId)


def listed(client, image=IMAGE):
    request = models.DescribeImageSharePermissionRequest()
    request.ImageId = image
    answer = client.DescribeImageSharePermission(request)
    assert UUID.fullmatch(answer.RequestId)
    for share in answer.SharePermissionSet:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", share.CreatedTime)
    return [share.AccountId for share in answer.SharePermissionSet]


def check_refused(code, call, *arguments, **named):
    with pytest.raises(TencentCloudSDKException) as refusal:
        call(*arguments, **named)
    assert refusal.value.get_code() == code
    assert UUID.fullmatch(refusal.value.get_request_id())
    return refusal.value.get_message()


@every_signature
def test_an_image_is_shared_listed_and_taken_back(sandbox, signature):
    sdk = client(sandbox, signature)
    accounts = [str(100044440001 + number) for number in range(12)]
    modify(sdk, accounts)
    assert sandbox.shared() == accounts
    assert listed(sdk) == accounts
    modify(sdk, accounts[1:], "CANCEL")
    assert listed(sdk) == accounts[:1]
    request = sandbox.last_request()
    assert request["signature_version"] == ("TC3" if signature[0].startswith("TC3") else "v1")
    assert request["client_tag"].startswith("SDK_PYTHON_")


@every_signature
def test_a_wrong_key_is_found_out(sandbox, signature):
    sdk = client(sandbox, signature, secret_key=SECRET_KEY + "x")
    check_refused("AuthFailure.SignatureFailure", modify, sdk, ["1038493875"])
    assert sandbox.shared() == []


@every_signature
def test_an_unknown_key_is_told_from_a_wrong_one(sandbox, signature):
    sdk = client(sandbox, signature, secret_id="AKIDUNKNOWN")
    check_refused("AuthFailure.SecretIdNotFound", modify, sdk, ["1038493875"])


@every_signature
def test_an_unknown_image_and_an_unknown_account_have_their_codes(sandbox, signature):
    sdk = client(sandbox, signature)
    check_refused("InvalidImageId.NotFound", modify, sdk, ["1038493875"], image=UNKNOWN_IMAGE)
    check_refused("InvalidImageId.NotFound", listed, sdk, image=UNKNOWN_IMAGE)
    message = check_refused("InvalidAccountId.NotFound", modify, sdk, ["1038493875", UNKNOWN_ACCOUNT])
    assert UNKNOWN_ACCOUNT in message
    assert sandbox.shared() == []


@every_signature
def test_an_image_takes_no_more_accounts_than_its_cap(sandbox, signature):
    sdk = client(sandbox, signature)
    message = check_refused("OverQuota", modify, sdk, ["1038493875"], image=FULL_IMAGE)
    assert "500" in message
    assert len(listed(sdk, FULL_IMAGE)) == 500


@every_signature
def test_more_than_ten_requests_in_a_second_are_throttled(sandbox, signature):
    sdk = client(sandbox, signature)

    def code(number):
        try:
            listed(sdk)
            return "ok"
        except TencentCloudSDKException as refusal:
            assert UUID.fullmatch(refusal.get_request_id())
            if refusal.get_code() == "RequestLimitExceeded":
                assert re.search(r"equals to `\d+` in a second, which exceeds the frequency limit `10`", str(refusal))
            return refusal.get_code()

    with ThreadPoolExecutor(16) as pool:
        codes = set(pool.map(code, range(80)))
    assert codes == {"ok", "RequestLimitExceeded"}
    assert sandbox.stats()["max_in_any_second"]["DescribeImageSharePermission"] > 10


def test_images_are_described(sandbox):
    request = models.DescribeImagesRequest()
    request.ImageIds = [IMAGE, "img-qlzp4oea", UNKNOWN_IMAGE]
    answer = client(sandbox).DescribeImages(request)
    assert answer.TotalCount == 2
    image = answer.ImageSet[0]
    assert (image.ImageId, image.ImageState, image.ImageType) == (IMAGE, "NORMAL", "PRIVATE_IMAGE")
    name = models.Filter()
    name.Name, name.Values = "image-name", ["golden-2026.10-singapore"]
    request = models.DescribeImagesRequest()
    request.Filters = [name]
    for signature in SIGNATURES:
        answer = client(sandbox, signature).DescribeImages(request)
        assert [image.ImageId for image in answer.ImageSet] == ["img-qlzp4oea"]


@every_signature
def test_a_role_gives_a_key_that_needs_its_token(sandbox, signature):
    request = sts_models.AssumeRoleRequest()
    request.RoleArn = "qcs::cam::uin/100009999999:roleName/share"
    request.RoleSessionName = "imageshare"
    sts = client(sandbox, signature, kind=sts_client.StsClient)
    answer = sts.AssumeRole(request)
    key = answer.Credentials
    sdk = client(sandbox, signature, key.TmpSecretId, key.TmpSecretKey, key.Token)
    modify(sdk, ["1038493875"])
    assert sandbox.shared() == ["1038493875"]
    sdk = client(sandbox, signature, key.TmpSecretId, key.TmpSecretKey, "other")
    check_refused("AuthFailure.TokenFailure", modify, sdk, ["20000"])
    identity = sts.GetCallerIdentity(sts_models.GetCallerIdentityRequest())
    assert identity.AccountId == "100009999999"


def test_an_answer_that_is_no_answer_is_an_error_of_the_network(sandbox):
    sandbox.set_faults(script=[{"action": "ModifyImageSharePermission", "do": "http_500"}])
    with pytest.raises(TencentCloudSDKException) as refusal:
        modify(client(sandbox), ["1038493875"])
    assert refusal.value.get_code() == "ServerNetworkError"
    assert sandbox.shared() == []
