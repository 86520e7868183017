#!/usr/bin/env python3
"""Writes what the container's binary is made of, as CycloneDX: make.py FILE.

It names what the build compiled. Tools that read only `cargo metadata` name sixty crates more, which tests or other
features would need. The same commit gives the same bytes."""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
import uuid
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")).resolve() / "static"
SPACE = uuid.UUID("5c1f6a52-0f5e-5d59-9b0c-0d7a7f0e2b11")


def main():
    text = json.dumps(bill(), indent=2) + "\n"
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"error: {problem}")
    Path(sys.argv[1]).write_text(text)


def output(*command):
    return subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def bill():
    compiled, linked = artifacts()
    target = output("rustc", "--print", "host-tuple")
    metadata = json.loads(output("cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={target}"))
    lock = tomllib.loads((REPOSITORY / "Cargo.lock").read_text())
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in lock["package"]}
    packages = {package["id"]: package for package in metadata["packages"] if package["id"] in compiled}
    components = {key: component(package, checksums) for key, package in packages.items()}
    references = {key: part["bom-ref"] for key, part in components.items()}
    [root] = (key for key, package in packages.items() if package["name"] == "imageshare")
    revision = output("git", "rev-parse", "HEAD")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(SPACE, f"{revision} {target}").urn,
        "version": 1,
        "metadata": {
            "timestamp": output("git", "log", "-1", "--format=%cI"),
            "lifecycles": [{"phase": "build"}],
            "component": components.pop(root) | {"type": "application"},
            "properties": [
                {"name": "imageshare:revision", "value": revision},
                {"name": "imageshare:target", "value": target},
            ],
        },
        # Build dependencies are not in the binary.
        "components": [
            part | {"scope": "required" if key in linked else "excluded"} for key, part in sorted(components.items())
        ],
        "dependencies": [
            {"ref": references[node["id"]], "dependsOn": sorted(references[key] for key in needed(node) & compiled)}
            for node in metadata["resolve"]["nodes"]
            if node["id"] in compiled
        ],
    }


def needed(node):
    """Returns the ids of the packages that a package needs outside of its tests."""
    return {need["pkg"] for need in node["deps"] if any(kind["kind"] != "dev" for kind in need["dep_kinds"])}


def artifacts():
    """Returns the ids of the packages that the build compiled, and of those compiled for the target."""
    with tempfile.TemporaryDirectory() as folder:
        output("deploy/container/files", folder)
    messages = map(json.loads, (BUILD / "messages.json").read_text().splitlines())
    files = [(part["package_id"], part["filenames"][0]) for part in messages if part["reason"] == "compiler-artifact"]
    # Cargo puts build dependencies into a folder next to that of the target.
    linked = {key for key, file in files if not Path(file).is_relative_to(BUILD / "release")}
    return {key for key, _ in files}, linked


def component(package, checksums):
    name, version = package["name"], package["version"]
    described = {
        "type": "library",
        "bom-ref": f"{name}@{version}",
        "name": name,
        "version": version,
        # Old manifests write `/` for OR.
        "licenses": [{"expression": " OR ".join(part.strip() for part in package["license"].split("/"))}],
    }
    # Crates of this repository are not in a registry.
    if checksum := checksums[name, version]:
        described["purl"] = PackageURL("cargo", name=name, version=version).to_string()
        described["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return described


if __name__ == "__main__":
    main()
