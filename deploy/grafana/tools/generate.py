#!/usr/bin/env python3
"""Writes the dashboards of deploy/grafana/dashboards.yml: generate.py [FOLDER] (default: deploy/grafana/dashboards)."""

import json
import sys
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parent.parent
GRID_WIDTH = 24

INPUT = yaml.safe_load((FOLDER / "dashboards.yml").read_text())
EVERY = INPUT["every"]


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "dashboards"
    folder.mkdir(parents=True, exist_ok=True)
    for dashboard in INPUT["dashboards"]:
        text = json.dumps(dashboard_of(dashboard), indent=2, sort_keys=True)
        (folder / f"{dashboard['uid']}.json").write_text(f"{text}\n")


def dashboard_of(dashboard):
    [other] = [other for other in INPUT["dashboards"] if other is not dashboard]
    to_other = link(other["title"], f"/d/{other['uid']}") | {"includeVars": True, "keepTime": True}
    return EVERY["dashboard"] | {
        "uid": dashboard["uid"],
        "title": dashboard["title"],
        "description": dashboard["description"],
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


def target(letter, query):
    legend, expression = query
    for name, matchers in INPUT["matchers"].items():
        expression = expression.replace(f"%{name}", matchers)
    # An increase over the selected range is one number. All other expressions are drawn over time.
    instant = "$__range]" in expression
    return EVERY["target"] | {
        "expr": " ".join(expression.split()),
        "instant": instant,
        "legendFormat": legend,
        "range": not instant,
        "refId": letter,
    }


if __name__ == "__main__":
    main()
