#!/usr/bin/env python3
"""The list of what the binary is made of: it is CycloneDX, which the program that makes it checks by the schema, and it
names what cargo compiles for the container's binary: that, with these versions, and nothing else.

Needs what tests/stages/container has built; `tests/deploy` calls this after it."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")).resolve() / "static"


def main():
    machine = re.search("^host: (.+)$", output("rustc", "-vV"), re.MULTILINE)[1]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "imageshare.cdx.json"
        output(sys.executable, "-B", REPOSITORY / "deploy" / "sbom" / "make.py", file)
        bill = json.loads(file.read_text())
    named = {crate["bom-ref"] for crate in bill["components"] if crate["scope"] == "required"}
    compiled = set(crates(machine)) - {bill["metadata"]["component"]["bom-ref"]}
    if named != compiled:
        sys.exit(f"tests/stages/sbom.py: named only: {sorted(named - compiled)}; compiled only: {sorted(compiled - named)}")
    others = len(bill["components"]) - len(named)
    print(f"the bill: {len(named)} crates in the binary, {others} that only the compiler runs")


def crates(machine):
    """What was compiled for the target; what runs while building is elsewhere."""
    # As deploy/container/build has it, so that nothing is compiled anew.
    revision = os.environ.get("IMAGESHARE_REVISION") or output("git", "rev-parse", "--short=12", "HEAD").strip()
    said = output(
        *"cargo build --locked --release --package imageshare --message-format json --quiet".split(),
        *("--target", machine, "--target-dir", TARGET),
        RUSTFLAGS="-C target-feature=+crt-static",
        IMAGESHARE_REVISION=revision,
    )
    for line in said.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and Path(message["filenames"][0]).is_relative_to(TARGET / machine):
            # registry+https://...#NAME@VERSION, or path+file:///.../NAME#VERSION.
            place, _, name = message["package_id"].rpartition("#")
            yield name if "@" in name else f"{Path(place).name}@{name}"


def output(*command, **variables):
    known = os.environ | variables
    return subprocess.run(command, cwd=REPOSITORY, env=known, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
