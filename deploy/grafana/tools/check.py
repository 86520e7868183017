#!/usr/bin/env python3
"""Compares the dashboards and rules with docs/operations.md: its table of metrics, and its headings."""

import re
import sys

from expressions import REPOSITORY, of_panels, of_rules, panels, rules, selectors

DOCS = (REPOSITORY / "docs" / "operations.md").read_text()

# Prometheus adds these labels to all series that it scrapes.
SCRAPE_LABELS = {"job": None, "instance": None}

# The process collector exports it; no panel needs it.
UNUSED = {"process_virtual_memory_bytes"}


def main():
    problems = [*of_names(), *of_links()]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(bool(problems))


def documented():
    """Returns the labels of each series name in the table. A label maps to its values, or to None if they are open."""
    series = {}
    for name, kind, cell in re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", DOCS, re.M):
        labels = {label: values and values.split(", ") for label, values in re.findall(r"`(\w+)`(?:: ([^;]+))?", cell)}
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            series[name + suffix] = (name, SCRAPE_LABELS | labels | ({"le": None} if suffix == "_bucket" else {}))
    return series


def of_names():
    """Yields the uses of undocumented names, labels and label values, then the metrics without a use."""
    series, used = documented(), set(UNUSED)
    recorded = {rule["record"] for _, rule in rules() if "record" in rule}
    for location, expression in [*of_panels(), *of_rules()]:
        for selected, matchers in selectors(expression):
            if selected in recorded:
                continue
            if selected not in series:
                yield f"{location}: {selected}: unknown metric (expected one of docs/operations.md or a recording rule)"
                continue
            name, labels = series[selected]
            used.add(name)
            for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"(.*?)"', matchers):
                if label not in labels:
                    yield f"{location}: {selected}: unknown label {label} (expected one of {', '.join(labels)})"
                elif operator in ("=", "!=") and labels[label] and value not in labels[label]:
                    expected = ", ".join(labels[label])
                    yield f'{location}: {selected}: unknown value {label}="{value}" (expected one of {expected})'
    for name in sorted({name for name, _ in series.values()} - used):
        yield f"docs/operations.md: {name}: unused metric (expected a panel or a rule that uses it)"


def of_links():
    """Yields the panels and alerts whose runbook section is missing."""
    headings = re.findall(r"^#+ (.+)$", DOCS, re.M)
    sections = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    links = [(location, panel["links"][0]["url"]) for location, panel in panels()]
    links += [(location, rule["annotations"].get("runbook_url", "")) for location, rule in rules() if "alert" in rule]
    for location, link in links:
        section = link.partition("#")[2]
        if section not in sections:
            yield f'{location}: runbook section "{section}": missing (expected a heading of docs/operations.md)'


if __name__ == "__main__":
    main()
