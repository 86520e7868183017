"""Debian's Packer with the sandbox as proxy. Its name keeps it out of `tests/run`; `tests/deploy clients` names it."""

import os
import re
import subprocess
from itertools import groupby

from conftest import REPOSITORY

# The requests of a build, without repetitions.
REQUESTS = """DescribeZones DescribeImages CreateKeyPair DescribeVpcs DescribeSubnets DescribeSecurityGroups RunInstances
    DescribeInstances DisassociateInstancesKeyPairs DescribeInstances CreateImage DescribeImages ModifyImageSharePermission
    SyncImages DescribeImages TerminateInstances DeleteKeyPairs"""


def build(sandbox_url, ca_file, *options):
    environment = {"PATH": os.environ["PATH"], "HOME": str(ca_file.parent), "CHECKPOINT_DISABLE": "1"}
    environment |= {"HTTPS_PROXY": sandbox_url, "SSL_CERT_FILE": str(ca_file)}
    environment["TENCENTCLOUD_SECRET_ID"] = "AKIDSANDBOXEXAMPLE"
    environment["TENCENTCLOUD_SECRET_KEY"] = "sandbox-secret-key-example"
    command = ["packer", "build", "-color=false", *options, REPOSITORY / "examples" / "packer" / "golden.json"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_packer_builds_shares_and_copies_image(sandbox, sandbox_url, ca_file):
    run = build(sandbox_url, ca_file)
    made = dict(re.findall(r"([\w-]+): (img-\w+)", run.stdout.split("artifacts")[-1]))
    assert (run.returncode, set(made)) == (0, {"ap-singapore", "ap-tokyo", "na-ashburn"}), run.stdout + run.stderr
    shares = sandbox("state")["shares"]
    assert [set(shares.get(image, ())) for image in made.values()] == [{"100022975249", "1038493875"}, set(), set()]
    requests = sandbox("requests?last=100")["requests"]
    assert {request["code"] for request in requests} == {"ok"}
    assert [action for action, _ in groupby(request["action"] for request in requests)] == REQUESTS.split()


def test_refused_share_ends_packer_and_deletes_image(sandbox, sandbox_url, ca_file):
    before = sandbox("state")
    run = build(sandbox_url, ca_file, "-var=accounts=1038493875,100000000404")
    assert run.returncode == 1, run.stdout + run.stderr
    assert re.search(r"Code=InvalidAccountId.NotFound, Message=.*`100000000404`.*, RequestId=[0-9a-f-]{36}", run.stdout)
    assert sandbox("state") == before
