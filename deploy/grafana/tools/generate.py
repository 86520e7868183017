#!/usr/bin/env python3
"""Writes the dashboards, and the table of metrics in docs/operations.md. With --check says whether what is committed is
what would be written."""

import argparse
import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from expressions import DEPLOY, OPERATIONS, metrics
from health import UID as HEALTH
from health import health
from overview import UID as OVERVIEW
from overview import overview

# The line of docs/operations.md that the table follows, up to the next empty line.
MARK = "<!-- This table is written by deploy/grafana/tools/generate.py. -->\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="write nothing")
    check = arguments.parse_args().check
    wrong = []
    for path, text in made():
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            wrong.append(path)
    for path in wrong:
        print(f"{path}: found something else than generate.py makes; run it and commit what it writes", file=sys.stderr)
    sys.exit(bool(wrong))


def made():
    """Each file, and what is in it."""
    for uid, dashboard in ((OVERVIEW, overview()), (HEALTH, health())):
        path = DEPLOY / "grafana" / "dashboards" / f"{uid}.json"
        yield path, json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
    before, _, after = OPERATIONS.read_text().partition(MARK)
    _, _, rest = after.partition("\n\n") if after.startswith("|") else ("", "", after.lstrip("\n"))
    yield OPERATIONS, f"{before}{MARK}{table()}\n{rest}"


def table():
    """The metrics as a table for people."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in metrics().values():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
