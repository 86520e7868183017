#!/usr/bin/env python3
"""Writes what the binary is made of, as CycloneDX: make.py FILE [--target TRIPLE].

It is what `cargo tree` says, which resolves features as a build does. Tools that read `cargo metadata` name sixty
crates more, which tests or other features would need. The same commit gives the same bytes."""

import argparse
import json
import re
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PACKAGE = "imageshare"
# DEPTH|NAME vVERSION (proc-macro) (FOLDER) (*)|LICENCE
LINE = re.compile(r"(?P<depth>\d+)\|(?P<name>\S+) v(?P<version>\S+)(?P<marks>[^|]*)\|(?P<licence>.*)")
SPACE = uuid.UUID("5c1f6a52-0f5e-5d59-9b0c-0d7a7f0e2b11")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--target", help="the target of the build; this machine's unless given")
    given = arguments.parse_args()
    text = json.dumps(bill(given.target or host()), indent=2) + "\n"
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem:
        sys.exit(f"{given.file}: {problem}")
    given.file.parent.mkdir(parents=True, exist_ok=True)
    given.file.write_text(text)
    print(given.file)


def said(*command):
    done = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def host():
    return re.search("^host: (.+)$", said("rustc", "-vV"), re.MULTILINE)[1]


def bill(target):
    crates, edges = tree(target)
    linked = reached(crates, edges)
    root, *others = crates
    revision = said("git", "rev-parse", "HEAD")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(SPACE, f"{revision} {target}").urn,
        "version": 1,
        "metadata": {
            "timestamp": said("git", "log", "-1", "--format=%cI"),
            "lifecycles": [{"phase": "build"}],
            "component": component(root, crates[root]) | {"type": "application"},
            "properties": [
                {"name": "imageshare:revision", "value": revision},
                {"name": "imageshare:target", "value": target},
            ],
        },
        # What only the compiler runs is not in the binary.
        "components": [
            component(crate, crates[crate]) | {"scope": "required" if crate in linked else "excluded"}
            for crate in sorted(others)
        ],
        "dependencies": [
            {"ref": reference(crate), "dependsOn": sorted(map(reference, edges[crate]))} for crate in sorted(crates)
        ],
    }


def tree(target):
    """The crates of the binary, the binary's first, and who needs whom."""
    crates, edges, above = {}, {}, []
    lines = said(
        *"cargo tree --locked --edges normal --prefix depth --format |{p}|{l}".split(),
        *("--package", PACKAGE, "--target", target),
    )
    for line in lines.splitlines():
        match = LINE.fullmatch(line)
        if not match:
            sys.exit(f"cargo tree: found {line!r}, allowed is DEPTH|NAME vVERSION|LICENCE")
        crate, depth = (match["name"], match["version"]), int(match["depth"])
        is_macro = "(proc-macro)" in match["marks"]
        # Old manifests write `/` for OR.
        licence = " ".join(match["licence"].replace("/", " OR ").split())
        crates.setdefault(crate, {"licence": licence, "is_macro": is_macro})
        edges.setdefault(crate, set())
        above[depth:] = [crate]
        if depth:
            edges[above[depth - 1]].add(crate)
    return crates, edges


def reached(crates, edges):
    """What is linked: all that is needed by something else than a macro."""
    found, waiting = set(), [next(iter(crates))]
    while waiting:
        crate = waiting.pop()
        if crate not in found and not crates[crate]["is_macro"]:
            found.add(crate)
            waiting += edges[crate]
    return found


LOCKED = {
    (package["name"], package["version"]): package
    for package in tomllib.loads((REPOSITORY / "Cargo.lock").read_text())["package"]
}


def component(crate, known):
    name, version = crate
    found = {
        "type": "library",
        "bom-ref": reference(crate),
        "name": name,
        "version": version,
        "licenses": [{"expression": known["licence"]}],
    }
    # A crate of this repository is in no registry.
    if checksum := LOCKED[crate].get("checksum"):
        found["purl"] = PackageURL("cargo", name=name, version=version).to_string()
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return found


def reference(crate):
    return "@".join(crate)


if __name__ == "__main__":
    main()
