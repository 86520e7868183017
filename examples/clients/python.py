"""Runs the vendor's Python SDK or tccli, of either site: `python.py ALGORITHM METHOD`, or `python.py tccli`.

Reads requests from standard input, one JSON object per line, and prints the `Response` of each as a line. ENDPOINT is the
address of the sandbox. Without it the client has its production endpoint, below ROOT_DOMAIN if that is set.
"""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

SERVICES = {"cvm": ("v20170312", "CvmClient"), "sts": ("v20180813", "StsClient")}
SERVICES["organization"] = ("v20210331", "OrganizationClient")
ENDPOINT = os.environ.get("ENDPOINT")


def sdk(request):
    service, action = request["service"], request["action"]
    version, client = SERVICES[service]
    models = importlib.import_module(f"tencentcloud.{service}.{version}.models")
    client = getattr(importlib.import_module(f"tencentcloud.{service}.{version}.{service}_client"), client)
    if ENDPOINT:
        http = HttpProfile(protocol="http", endpoint=ENDPOINT, reqMethod=sys.argv[2])
    else:
        domain, ca_file = os.environ.get("ROOT_DOMAIN"), os.environ.get("SSL_CERT_FILE")
        http = HttpProfile(rootDomain=domain, certification=ca_file, reqMethod=sys.argv[2])
    credential = Credential(request["secret_id"], request["secret_key"], request["token"])
    client = client(credential, request["region"], ClientProfile(signMethod=sys.argv[1], httpProfile=http))
    parameters = getattr(models, f"{action}Request")()
    parameters.from_json_string(json.dumps(request["parameters"]))
    return json.loads(getattr(client, action)(parameters).to_json_string())


def tccli(request):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TENCENTCLOUD_")}
    environment |= {"TENCENTCLOUD_REGION": request["region"], "TENCENTCLOUD_SECRET_ID": request["secret_id"]}
    environment |= {"TENCENTCLOUD_SECRET_KEY": request["secret_key"]}
    if request["token"]:
        environment["TENCENTCLOUD_TOKEN"] = request["token"]
    command = [Path(sys.executable).with_name("tccli"), request["service"], request["action"]]
    command += ["--endpoint", f"http://{ENDPOINT}"] if ENDPOINT else []
    for name, value in request["parameters"].items():
        command += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    if error := re.search(r"code:(\S+) message:(.*) requestId:(\S+)", run.stdout + run.stderr, re.DOTALL):
        raise TencentCloudSDKException(*error.groups())
    return json.loads(run.stdout)


for line in sys.stdin:
    try:
        response = (tccli if sys.argv[1] == "tccli" else sdk)(json.loads(line))
    except TencentCloudSDKException as error:
        response = {"Error": {"Code": error.get_code(), "Message": error.get_message()}}
        response["RequestId"] = error.get_request_id()
    print(json.dumps(response), flush=True)
