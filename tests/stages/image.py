#!/usr/bin/env python3
"""Unpacks an image (a folder of the form OCI) and says what it holds: image.py IMAGE FOLDER prints its files with mode
and bytes, and how it is started, as one object of JSON."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path


def main():
    image, folder = map(Path, sys.argv[1:])

    def of(descriptor):
        return image / "blobs" / descriptor["digest"].replace(":", "/")

    [newest] = json.loads((image / "index.json").read_text())["manifests"]
    manifest = json.loads(of(newest).read_text())
    config = json.loads(of(manifest["config"]).read_text())["config"]
    files = {}
    folder.mkdir()
    for layer in manifest["layers"]:
        with tarfile.open(of(layer)) as archive:
            entries = [entry for entry in archive if not entry.isdir()]
        files |= {f"/{entry.name}": [f"{entry.mode & 0o7777:o}", entry.size] for entry in entries}
        subprocess.run(["tar", "--extract", "--file", of(layer), "--directory", folder], check=True)
    print(json.dumps({"files": files, "config": config}))


if __name__ == "__main__":
    main()
