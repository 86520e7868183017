#!/usr/bin/env python3
"""Compares docs/operations.md with the dashboards and rules: its metrics are used, and it has their runbooks."""

import re
import sys

from prove import DEPLOY, of_panels, of_rules

# The process collector exports it; no panel needs it.
UNUSED = {"process_virtual_memory_bytes"}


def main():
    docs = (DEPLOY.parent / "docs" / "operations.md").read_text()
    queries, problems = [*of_panels(), *of_rules()], []
    expressions = " ".join(expression for _, expression, _ in queries)
    for name in re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram) \|", docs, re.M):
        if name not in UNUSED and not re.search(rf"\b{name}(_bucket|_sum|_count)?\b", expressions):
            problems.append(f"{name}: unused metric (expected a panel or a rule that uses it)")
    headings = re.findall(r"^#+ (.+)$", docs, re.M)
    sections = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for location, _, runbook in queries:
        if runbook and runbook.partition("#")[2] not in sections:
            problems.append(f"{location}: {runbook}: missing (expected a heading of docs/operations.md)")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
