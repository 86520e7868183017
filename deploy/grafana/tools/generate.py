#!/usr/bin/env python3
"""Writes the dashboards of deploy/grafana/dashboards.yml, and the rules of deploy/prometheus as a resource of Kubernetes.
Replaces the runbook's address in all files of deploy/."""

import argparse
import json
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parents[2]
GRID_WIDTH = 24

# The other files with links to the runbook.
LINKED_SUFFIXES = {".service", ".yaml", ".yml"}

INPUT = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yml").read_text())
EVERY = INPUT["every"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runbook", default=INPUT["runbook"], help="new address of docs/operations.md")
    arguments.add_argument("folder", nargs="?", type=Path, default=DEPLOY, help="where to write (default: deploy)")
    given = arguments.parse_args()
    former, INPUT["runbook"] = INPUT["runbook"], given.runbook
    for dashboard in INPUT["dashboards"]:
        text = json.dumps(dashboard_of(dashboard), indent=2, sort_keys=True)
        write(given.folder / "grafana" / "dashboards" / f"{dashboard['uid']}.json", f"{text}\n")
    for path in sorted(path for path in DEPLOY.rglob("*") if path.suffix in LINKED_SUFFIXES):
        text = path.read_text()
        if former in text:
            write(given.folder / path.relative_to(DEPLOY), text.replace(former, given.runbook))
    rules = prometheus_rule().replace(former, given.runbook)
    write(given.folder / "kubernetes" / "monitor" / "rules.yaml", rules)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def prometheus_rule():
    """Returns the rules as a resource of the Prometheus operator."""
    groups = []
    for name in ("recording", "alerts"):
        groups += yaml.safe_load((DEPLOY / "prometheus" / f"{name}.yml").read_text())["groups"]
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "imageshare"},
        "spec": {"groups": groups},
    }
    comment = "# Generated from deploy/prometheus by deploy/grafana/tools/generate.py.\n"
    return comment + yaml.safe_dump(resource, sort_keys=False, width=120)


def dashboard_of(dashboard):
    [other] = [other for other in INPUT["dashboards"] if other is not dashboard]
    to_other = link(other["title"], f"/d/{other['uid']}") | {"includeVars": True, "keepTime": True}
    return EVERY["dashboard"] | {
        "uid": dashboard["uid"],
        "title": dashboard["title"],
        "description": dashboard["description"],
        "annotations": {"list": [annotation(mark) for mark in INPUT["annotations"]]},
        "links": [link("Runbook", INPUT["runbook"]), to_other],
        "panels": list(grid(dashboard["rows"])),
        "templating": {"list": INPUT["variables"]},
    }


def link(title, url):
    return EVERY["link"] | {"title": title, "url": url}


def grid(rows):
    """Yields rows and panels with ids and positions, from left to right and from top to bottom."""
    number = y = 0
    for row in rows:
        number += 1
        position = {"x": 0, "y": y, "w": GRID_WIDTH, "h": 1}
        yield EVERY["row"] | {"title": row["title"], "id": number, "gridPos": position}
        x, y, line_height = 0, y + 1, 0
        for panel in row["panels"]:
            number += 1
            style = INPUT["types"][panel["style"]["type"]] | panel["style"]
            width, height = style["width"], style["height"]
            if x + width > GRID_WIDTH:
                x, y, line_height = 0, y + line_height, 0
            yield panel_of(panel, style) | {"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": height}}
            x, line_height = x + width, max(line_height, height)
        y += line_height


def panel_of(panel, style):
    """Returns a panel without id and position."""
    kind = INPUT["types"][style["type"]]
    targets = [target(*query) for query in zip("ABC", queries(panel).items(), strict=False)]
    thresholds = style.get("thresholds", {})
    steps = [{"color": "green", "value": None}]
    steps += [{"color": color, "value": value} for value, color in thresholds.items()]
    defaults = kind["defaults"] | {
        "mappings": style.get("mappings", []),
        "noValue": "no data",
        "thresholds": {"mode": "absolute", "steps": steps},
        "unit": style["unit"],
    }
    if any(target["instant"] for target in targets):
        defaults["decimals"] = 0
    if "custom" in kind:
        threshold_lines = {"thresholdsStyle": {"mode": "dashed" if thresholds else "off"}}
        defaults["custom"] = kind["custom"] | threshold_lines | style["custom"]
    return EVERY["panel"] | {
        "type": style["type"],
        "title": panel["title"],
        "description": panel["description"],
        "fieldConfig": {"defaults": defaults, "overrides": style.get("overrides", [])},
        "links": [link("Runbook section", f"{INPUT['runbook']}#{style['runbook']}")],
        "options": kind["options"] | style["options"],
        "targets": targets,
    }


def queries(panel):
    """Returns the expressions of a panel by legend."""
    if "quantiles" not in panel:
        return panel.get("queries") or {panel["style"].get("legend", "__auto"): panel["query"]}
    # Quantiles of no observations are NaN, which `>= 0` drops and `or vector(0)` replaces.
    rate = f"rate({panel['quantiles'].replace('{', '_bucket{')}[$__rate_interval])"
    return {
        legend: f"(histogram_quantile({quantile}, sum by (le) ({rate})) >= 0) or vector(0)"
        for legend, quantile in {"p50": 0.5, "p95": 0.95, "p99": 0.99}.items()
    }


def annotation(mark):
    fields = {name: value for name, value in mark.items() if name != "query"}
    return EVERY["annotation"] | fields | {"expr": filled(mark["query"])}


def filled(expression):
    """Returns an expression with its matchers, in one line."""
    for name, matchers in INPUT["matchers"].items():
        expression = expression.replace(f"%{name}", matchers)
    return " ".join(expression.split())


def target(letter, query):
    legend, expression = query
    # An increase over the selected range is one number. All other expressions are drawn over time.
    instant = "$__range]" in expression
    return EVERY["target"] | {
        "expr": filled(expression),
        "instant": instant,
        "legendFormat": legend,
        "range": not instant,
        "refId": letter,
    }


if __name__ == "__main__":
    main()
