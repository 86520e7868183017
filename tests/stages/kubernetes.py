#!/usr/bin/env python3
"""Renders the base, the example and all components of deploy/kubernetes as Kustomize does, and checks what comes out: by
the schemas of Kubernetes, of the Prometheus operator and of KEDA, with nothing that these do not know; and whether what
is named by one is there in another. Needs kubectl."""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import kubernetes_validate
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FOLDER = REPOSITORY / "deploy" / "kubernetes"
VERSION = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["workspace"]["package"]["version"]
KUBERNETES = "1.32"
OF_OTHERS = {kind.__name__: kind for kind in (ScaledObject, ServiceMonitor, TriggerAuthentication)}
# Seconds that a worker may take to end.
DRAIN = 25


def main():
    problems = []
    for name, resources in rendered():
        problems += [f"{name}: {problem}" for problem in [*by_schema(resources), *by_names(resources)]]
        print(f"{name}: {', '.join(resource['kind'] for resource in resources)}")
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(bool(problems))


def rendered():
    """What Kustomize makes of the base, of the example, and of the example with all components."""
    yield "base", kustomize(FOLDER / "base")
    yield "example", kustomize(FOLDER / "example")
    files = sorted(FOLDER.glob("*/kustomization.yaml"))
    components = [path.parent for path in files if yaml.safe_load(path.read_text())["kind"] == "Component"]
    with tempfile.TemporaryDirectory() as folder:
        overlay = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "imageshare",
            "resources": [os.path.relpath(FOLDER / "base", folder)],
            "components": [os.path.relpath(component, folder) for component in components],
        }
        (Path(folder) / "kustomization.yaml").write_text(json.dumps(overlay))
        yield "with " + ", ".join(component.name for component in components), kustomize(folder)


def kustomize(folder):
    done = subprocess.run(["kubectl", "kustomize", folder], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(done.stdout))


def by_schema(resources):
    for resource in resources:
        kind = OF_OTHERS.get(resource["kind"])
        try:
            if kind:
                # A member that the schema does not know is not in what is read.
                model = kind.model_validate(resource, strict=True)
                read = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
                if read != resource:
                    yield f"{resource['kind']}: found {resource}, of which the schema knows {read}"
            else:
                kubernetes_validate.validate(resource, KUBERNETES, strict=True)
        except (ValueError, kubernetes_validate.ValidationError) as error:
            yield f"{resource['kind']}: {error}"


def by_names(resources):
    """Whatever is selected or named is there."""
    of = {resource["kind"]: resource for resource in resources}
    pod = of["Deployment"]["spec"]["template"]
    yield from by_labels(of, pod)
    yield from by_ports(of, pod["spec"]["containers"][0])
    yield from by_files(of, pod["spec"])
    if "ServiceMonitor" in of:
        yield from by_monitor(of)
    if "ScaledObject" in of:
        yield from by_keda(of)


def wrong(place, found, allowed):
    return f"{place}: found {found}, allowed is {allowed}"


def selects(place, selector, labels):
    """An empty selector would take in everything."""
    if not selector or not selector.items() <= labels.items():
        yield wrong(place, f"the selector {selector}", f"some of {labels}")


def by_labels(of, pod):
    labels = pod["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        yield from selects(kind, of[kind]["spec"]["selector"].get("matchLabels"), labels)
    yield from selects("Service", of["Service"]["spec"]["selector"], labels)
    yield from selects("NetworkPolicy", of["NetworkPolicy"]["spec"]["podSelector"].get("matchLabels"), labels)
    for spread in pod["spec"]["topologySpreadConstraints"]:
        yield from selects("topologySpreadConstraints", spread["labelSelector"]["matchLabels"], labels)


def by_ports(of, container):
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    admitted = {port["port"] for rule in of["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]}
    if admitted != set(ports.values()):
        yield wrong("NetworkPolicy", f"the ports {admitted}", ports)
    for port in of["Service"]["spec"]["ports"]:
        if ports.get(port["targetPort"]) != port["port"]:
            yield wrong("Service", f"the port {port}", ports)
    for probe in ("livenessProbe", "readinessProbe"):
        if container[probe]["httpGet"]["port"] not in ports:
            yield wrong(probe, container[probe], ports)


def by_files(of, pod):
    container, settings = pod["containers"][0], of["ConfigMap"]
    if not container["image"].endswith(f":{VERSION}"):
        yield wrong("Deployment", container["image"], f"the version {VERSION} of Cargo.toml")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    # Kustomize names it by what it holds, so that a change starts new pods.
    if volumes["settings"]["configMap"]["name"] != settings["metadata"]["name"]:
        yield wrong("Deployment", volumes["settings"], settings["metadata"]["name"])
    file = Path(container["args"][container["args"].index("--config") + 1])
    if file.parent != mounts["settings"] or file.name not in settings["data"]:
        yield wrong("Deployment", f"the settings {file}", f"one of {list(settings['data'])} in {mounts['settings']}")
    said = tomllib.loads(settings["data"][file.name])
    for secret in (said["broker"]["url_file"], said["credentials"]["default"]["path"]):
        if Path(secret).parent != mounts["secret"]:
            yield wrong("Deployment", f"the secret {secret}", f"one in {mounts['secret']}")
    if pod["terminationGracePeriodSeconds"] <= DRAIN:
        yield wrong("Deployment", f"{pod['terminationGracePeriodSeconds']} s to end", f"more than {DRAIN} s")


def by_monitor(of):
    monitor, service = of["ServiceMonitor"]["spec"], of["Service"]
    yield from selects("ServiceMonitor", monitor["selector"]["matchLabels"], service["metadata"]["labels"])
    for endpoint in monitor["endpoints"]:
        if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
            yield wrong("ServiceMonitor", f"the port {endpoint['port']}", service["spec"]["ports"])


def by_keda(of):
    deployment, scaled, authentication = of["Deployment"], of["ScaledObject"]["spec"], of["TriggerAuthentication"]
    if scaled["scaleTargetRef"]["name"] != deployment["metadata"]["name"]:
        yield wrong("ScaledObject", scaled["scaleTargetRef"], deployment["metadata"]["name"])
    if "replicas" in deployment["spec"]:
        yield wrong("Deployment", "a number of pods", "none where KEDA says how many")
    lanes = tomllib.loads(of["ConfigMap"]["data"]["imageshare.toml"]).get("lanes", {"default": {}})
    queues = {f"imageshare.jobs.{lane}" for lane in lanes}
    for trigger in scaled["triggers"]:
        if trigger["metadata"]["queueName"] not in queues:
            yield wrong("ScaledObject", trigger["metadata"]["queueName"], queues)
        if trigger["authenticationRef"]["name"] != authentication["metadata"]["name"]:
            yield wrong("ScaledObject", trigger["authenticationRef"], authentication["metadata"]["name"])
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    secrets = {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}
    for reference in authentication["spec"]["secretTargetRef"]:
        if reference["name"] not in secrets:
            yield wrong("TriggerAuthentication", reference, secrets)


if __name__ == "__main__":
    main()
