"""A test with the fixture of conftest.py: code that shares an image, without the cloud."""

from tencentcloud.cvm.v20170312 import models


def test_shared_account_is_listed(cvm):
    share = models.ModifyImageSharePermissionRequest()
    share.ImageId, share.AccountIds, share.Permission = "img-6pb6lrmy", ["1038493875"], "SHARE"
    cvm.ModifyImageSharePermission(share)
    listing = models.DescribeImageSharePermissionRequest()
    listing.ImageId = "img-6pb6lrmy"
    shares = cvm.DescribeImageSharePermission(listing).SharePermissionSet
    assert [share.AccountId for share in shares] == ["1038493875"]
