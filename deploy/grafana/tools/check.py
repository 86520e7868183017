#!/usr/bin/env python3
"""Holds dashboards, rules, the list of metrics and the headings of docs/operations.md against each other.

Needs promtool."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from expressions import (
    DASHBOARDS,
    DEPLOY,
    OF_PROMETHEUS,
    OPERATIONS,
    filled,
    groupings,
    metrics,
    of_dashboards,
    of_rules,
    panels,
    rules,
    selectors,
)
from panels import DOCS

ALERTS_MAX = 10
# What a scrape may bring, for so many lanes.
LANES = 3
SERIES_MAX = 450

# Units that are no name of Grafana's may only be of these two forms.
UNIT = re.compile(r"[a-z]+|(suffix|prefix):.+")


def main():
    problems = [*of_panels(), *of_alerts(), *of_links(), *of_names(), *of_parsing(), *of_the_list()]
    for problem in problems:
        print(problem, file=sys.stderr)
    shown = sum(len(panels(path)) for path in DASHBOARDS)
    asked = len(list(of_dashboards())) + len(list(of_rules()))
    print(f"{shown} panels, {asked} expressions, {len(problems)} problems")
    sys.exit(bool(problems))


def of_panels():
    """Every panel says what it means, in which unit, and from which values on it is bad."""
    for path in DASHBOARDS:
        ids = [panel["id"] for panel in json.loads(path.read_text())["panels"]]
        if len(ids) != len(set(ids)):
            yield f"{path.name}: found two panels with one id"
        for panel in panels(path):
            place = f"{path.name}: {panel['title']}"
            defaults = panel["fieldConfig"]["defaults"]
            if not UNIT.fullmatch(defaults.get("unit", "")):
                yield f"{place}: found the unit {defaults.get('unit')!r}, allowed is one of Grafana's, or suffix:"
            if not panel.get("description", "").endswith("."):
                yield f"{place}: found no description in full sentences"
            if not defaults.get("thresholds", {}).get("steps"):
                yield f"{place}: found no thresholds"
            if not panel.get("links"):
                yield f"{place}: found no link to the runbook"
            if not panel.get("targets"):
                yield f"{place}: found no expression"


def of_alerts():
    """Every alert has what a person on call needs, and there are few."""
    alerts = [rule for _, rule in rules() if "alert" in rule]
    if len(alerts) > ALERTS_MAX:
        yield f"alerts.yml: found {len(alerts)} alerts, allowed are {ALERTS_MAX}"
    tests = (DEPLOY / "prometheus" / "alerts_test.yml").read_text()
    for alert in alerts:
        name, annotations = alert["alert"], alert.get("annotations", {})
        missing = {"summary", "description", "runbook_url"} - annotations.keys()
        if missing:
            yield f"alerts.yml: {name}: found no {', '.join(sorted(missing))}"
        if not alert.get("for"):
            yield f"alerts.yml: {name}: found no for"
        if alert.get("labels", {}).get("severity") not in ("critical", "warning"):
            yield f"alerts.yml: {name}: found no severity that is critical or warning"
        if annotations.get("runbook_url", "").partition("#")[2] != name.lower():
            yield f"alerts.yml: {name}: found a runbook_url that is not its own section"
        fires = re.search(rf"alertname: {name}\n\s+exp_alerts:", tests)
        silent = re.search(rf"alertname: {name}}}", tests)
        if not (fires and silent):
            yield f"alerts_test.yml: {name}: found no case in which it fires and one in which it does not"


def of_links():
    """Every link into docs/operations.md points to one of its headings, and every link in it to one somewhere."""
    anchors = anchors_of(OPERATIONS)
    for page, section in re.findall(r"\]\(([\w.]*)#([^)]+)\)", OPERATIONS.read_text()):
        path = OPERATIONS.with_name(page or OPERATIONS.name)
        if not path.exists() or section not in anchors_of(path):
            yield f"docs/operations.md: found a link to {page}#{section}, which is no heading"
    links = [(path.name, link) for path in DASHBOARDS for link in re.findall(r'"url": "([^"]+)"', path.read_text())]
    links += [(rule["alert"], rule["annotations"]["runbook_url"]) for _, rule in rules() if "alert" in rule]
    for place, link in links:
        page, _, section = link.partition("#")
        if page != DOCS and not page.startswith("/d/imageshare-"):
            yield f"{place}: found a link to {page}, allowed is {DOCS}"
        elif section and section not in anchors:
            yield f"{place}: found a link to #{section}, which is no heading of docs/operations.md"


def anchors_of(path):
    """The anchors of the headings of a page, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def of_names():
    """Every name, label and label value that is asked for is one that there is."""
    known = {name: metric for metric in metrics().values() for name in metric.exported()}
    recorded = {rule["record"] for _, rule in rules() if "record" in rule}
    for expression in [*of_dashboards(), *of_rules()]:
        labels = set(OF_PROMETHEUS)
        for name, matchers in selectors(filled(expression.text)):
            if name in recorded:
                labels |= set(name.split(":")[0].split("_"))
                continue
            if name not in known:
                yield f"{expression.place}: found {name}, which is no metric of metrics.txt and no recording rule"
                continue
            metric = known[name]
            labels |= metric.labels.keys() | {"le"}
            for label, operator, value in matchers:
                values = metric.labels.get(label)
                if values is None and label not in OF_PROMETHEUS:
                    allowed = ", ".join(metric.labels) or "no label"
                    yield f"{expression.place}: found {label} of {name}, which has {allowed}"
                elif operator in ("=", "!=") and values and value not in values:
                    yield f"{expression.place}: found {label}={value} of {name}, which has {', '.join(sorted(values))}"
        for label in groupings(expression.text) - labels:
            yield f"{expression.place}: found a grouping by {label}, which nothing in it has"


def of_parsing():
    """Prometheus' own tool reads every expression of every panel. (It reads the rules by itself.)"""
    made = [
        {"record": f"panel:expression:{number}", "expr": filled(expression.text)}
        for number, expression in enumerate(of_dashboards())
    ]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "panels.yml"
        # JSON is YAML.
        path.write_text(json.dumps({"groups": [{"name": "panels", "rules": made}]}))
        done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        yield f"promtool check rules: {done.stdout}{done.stderr}"


def of_the_list():
    """What metrics.txt says is within the bounds, and every metric is shown or watched somewhere."""
    known = metrics()
    series = sum(metric.series(LANES) for metric in known.values())
    if series > SERIES_MAX:
        yield f"metrics.txt: found {series} series for {LANES} lanes, allowed are {SERIES_MAX}"
    asked = {name for expression in [*of_dashboards(), *of_rules()] for name, _ in selectors(filled(expression.text))}
    for metric in known.values():
        if not metric.help.endswith("."):
            yield f"metrics.txt: {metric.name}: found no text that says what it means"
        if metric.kind == "counter" and not metric.name.endswith("_total"):
            yield f"metrics.txt: {metric.name}: found a counter whose name does not end in _total"
        if not metric.exported() & asked and metric.name != "process_virtual_memory_bytes":
            yield f"metrics.txt: {metric.name}: found in no panel and no rule"


if __name__ == "__main__":
    main()
