#!/usr/bin/env python3
"""Compares the dashboards and rules with docs/operations.md: its table of metrics, and its headings."""

import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
DEPLOY = REPOSITORY / "deploy"
DOCS = (REPOSITORY / "docs" / "operations.md").read_text()

# Prometheus adds these labels to all series that it scrapes.
SCRAPE_LABELS = {"job": None, "instance": None}

# The process collector exports it; no panel needs it.
UNUSED = {"process_virtual_memory_bytes"}

# A name with an underscore or a colon is a metric or a recording rule, unless it is a call or a grouping modifier.
SELECTOR = re.compile(r"(?<![\w:])([a-z]\w*[_:][\w:]*)(?![\w:]*\s*\()(?:\{(.*?)\})?")


class Query(NamedTuple):
    location: str
    expression: str
    runbook: str


def main():
    problems = [*names(), *runbooks()]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(bool(problems))


def of_panels():
    """Yields the queries of the dashboards, with Grafana's variables."""
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield Query(f"{path.name}: {panel['title']}", target["expr"], panel["links"][0]["url"])


def of_rules():
    """Yields the queries of the recording rules, which have no runbook, and of the alerts."""
    for name in ("recording.yml", "alerts.yml"):
        for group in yaml.safe_load((DEPLOY / "prometheus" / name).read_text())["groups"]:
            for rule in group["rules"]:
                runbook = rule["annotations"]["runbook_url"] if "alert" in rule else ""
                yield Query(f"{name}: {rule.get('alert') or rule['record']}", rule["expr"], runbook)


def documented():
    """Returns the metric and the labels of each series in the table. A label has its values, if they are listed."""
    series = {}
    for name, kind, cell in re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", DOCS, re.M):
        labels = {label: values and values.split(", ") for label, values in re.findall(r"`(\w+)`(?:: ([^;]+))?", cell)}
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            series[name + suffix] = (name, SCRAPE_LABELS | labels | ({"le": None} if suffix == "_bucket" else {}))
    return series


def names():
    """Yields the uses of undocumented names, labels and label values, then the metrics without a use."""
    series, used = documented(), set(UNUSED)
    recorded = re.findall(r"record: (\S+)", (DEPLOY / "prometheus" / "recording.yml").read_text())
    for location, expression, _ in [*of_panels(), *of_rules()]:
        for selected, matchers in SELECTOR.findall(expression):
            if selected in recorded:
                continue
            name, labels = series.get(selected, (None, {}))
            if not name:
                yield f"{location}: {selected}: unknown metric (expected one of docs/operations.md or a recording rule)"
            used.add(name)
            for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"(.*?)"', matchers if name else ""):
                expected = labels.get(label, [])
                is_value = operator in ("=", "!=")
                if label not in labels or (is_value and expected and value not in expected):
                    yield f'{location}: {selected}: unknown label {label}{operator}"{value}" (expected {labels})'
    for name in sorted({name for name, _ in series.values()} - used):
        yield f"docs/operations.md: {name}: unused metric (expected a panel or a rule that uses it)"


def runbooks():
    """Yields the panels and alerts whose runbook section is missing."""
    headings = re.findall(r"^#+ (.+)$", DOCS, re.M)
    sections = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for location, _, runbook in [*of_panels(), *of_rules()]:
        section = runbook.partition("#")[2]
        if runbook and section not in sections:
            yield f'{location}: runbook section "{section}": missing (expected a heading of docs/operations.md)'


if __name__ == "__main__":
    main()
