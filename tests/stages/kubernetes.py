#!/usr/bin/env python3
"""Renders the base, the example and all components for Kustomize. Checks the results by the schemas of Kubernetes, of the
Prometheus operator and of KEDA, and compares what one resource names with the others. Needs kubectl."""

import json
import os
import subprocess
import tempfile
import tomllib
from pathlib import Path

import kubernetes_validate
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "deploy" / "kubernetes"
VERSION = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["workspace"]["package"]["version"]
KUBERNETES = "1.32"
MODELS = {model.__name__: model for model in (PrometheusRule, ScaledObject, ServiceMonitor)}
# Seconds that a worker may take to end.
DRAIN = 25


def main():
    files = sorted([*FOLDER.glob("*/kustomization.yaml"), REPOSITORY / "deploy/grafana/kustomization.yaml"])
    components = [path.parent for path in files if "kind: Component" in path.read_text()]
    with tempfile.TemporaryDirectory() as folder:
        overlay = {
            "namespace": "imageshare",
            "resources": [os.path.relpath(FOLDER / "base", folder)],
            "components": [os.path.relpath(component, folder) for component in components],
        }
        (Path(folder) / "kustomization.yaml").write_text(json.dumps(overlay))
        for place in (FOLDER / "base", FOLDER / "example", folder):
            command = ["kubectl", "kustomize", place]
            rendered = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            resources = list(yaml.safe_load_all(rendered))
            for resource in resources:
                check_schema(resource)
            check_names({resource["kind"]: resource for resource in resources if not is_dashboards(resource)})
            print(f"{place}: {', '.join(resource['kind'] for resource in resources)}")


def is_dashboards(resource):
    return resource["metadata"].get("labels", {}).get("grafana_dashboard") == "1"


def check_schema(resource):
    model = MODELS.get(resource["kind"])
    if model:
        # The models drop unknown members.
        read = model.model_validate(resource, strict=True)
        assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == resource, resource
    else:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)


def check_names(resources):
    """Checks that what one resource selects or names exists in another."""
    deployment, service, policy = (resources[kind] for kind in ("Deployment", "Service", "NetworkPolicy"))
    template = deployment["spec"]["template"]
    pod, container = template["spec"], template["spec"]["containers"][0]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        resources["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        policy["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in pod["topologySpreadConstraints"]),
    ]
    for selector in selectors:
        check_selector(selector, template["metadata"]["labels"])

    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    admitted = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    assert admitted == set(ports.values()), (admitted, ports)
    for port in service["spec"]["ports"]:
        assert ports.get(port["targetPort"]) == port["port"], (port, ports)
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports, (probe, ports)

    assert pod["serviceAccountName"] == resources["ServiceAccount"]["metadata"]["name"], pod
    assert container["image"].endswith(f":{VERSION}"), container["image"]
    assert pod["terminationGracePeriodSeconds"] > DRAIN
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    # Kustomize adds a hash to the name, so that a change starts new pods.
    config_map = resources["ConfigMap"]
    assert volumes["settings"]["configMap"]["name"] == config_map["metadata"]["name"], volumes
    file = Path(container["args"][container["args"].index("--config") + 1])
    assert file.parent == mounts["settings"], (file, mounts)
    settings = tomllib.loads(config_map["data"][file.name])
    for secret in (settings["broker"]["url_file"], settings["credentials"]["default"]["path"]):
        assert Path(secret).parent == mounts["secret"], (secret, mounts)

    if "ServiceMonitor" in resources:
        monitor = resources["ServiceMonitor"]["spec"]
        check_selector(monitor["selector"]["matchLabels"], service["metadata"]["labels"])
        for endpoint in monitor["endpoints"]:
            assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}, endpoint
    if "ScaledObject" in resources:
        scaled = resources["ScaledObject"]["spec"]
        assert scaled["scaleTargetRef"]["name"] == deployment["metadata"]["name"], scaled
        assert "replicas" not in deployment["spec"], "KEDA sets the number of pods"
        assert scaled["minReplicaCount"] >= 1, "ImageshareNotConsumed fires without a process"
        for trigger in scaled["triggers"]:
            assert 'imageshare_queue_ready{job="imageshare"}' in trigger["metadata"]["query"], trigger


def check_selector(selector, labels):
    # An empty selector matches everything.
    assert selector, labels
    assert selector.items() <= labels.items(), (selector, labels)


if __name__ == "__main__":
    main()
