#!/usr/bin/env python3
"""Writes deploy/grafana/dashboards/*.json from deploy/grafana/dashboards.yml."""

import argparse
import json
import sys
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parent.parent
GRID_WIDTH = 24
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}

INPUT = yaml.safe_load((FOLDER / "dashboards.yml").read_text())
EVERY = INPUT["every"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    check, differs = arguments.parse_args().check, False
    for dashboard in INPUT["dashboards"]:
        path = FOLDER / "dashboards" / f"{dashboard['uid']}.json"
        text = json.dumps(dashboard_of(dashboard), indent=2, sort_keys=True) + "\n"
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            differs = True
            print(f"error: {path.name}: differs from dashboards.yml (hint: run generate.py)", file=sys.stderr)
    sys.exit(differs)


def dashboard_of(dashboard):
    [other] = [other for other in INPUT["dashboards"] if other is not dashboard]
    to_other = link(other["title"], f"/d/{other['uid']}") | {"includeVars": True, "keepTime": True}
    return EVERY["dashboard"] | {
        "uid": dashboard["uid"],
        "title": dashboard["title"],
        "description": dashboard["description"],
        "links": [link("Runbook", INPUT["runbook"]), to_other],
        "panels": list(grid(dashboard["rows"])),
        "templating": {"list": list(variables())},
    }


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
            style = panel["style"]
            width, height = style["width"], style.get("height", 4 if style["type"] == "stat" else 8)
            if x + width > GRID_WIDTH:
                x, y, line_height = 0, y + line_height, 0
            yield panel_of(panel, style) | {"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": height}}
            x, line_height = x + width, max(line_height, height)
        y += line_height


def panel_of(panel, style):
    """Returns a panel without id and position."""
    kind = style["type"]
    targets = [target(*query) for query in zip("ABC", queries(panel).items(), strict=False)]
    options = dict(INPUT["options"][kind])
    steps = [{"color": "green", "value": None}]
    steps += [{"color": color, "value": value} for value, color in style.get("thresholds", {}).items()]
    defaults = {
        "color": {"mode": "palette-classic" if kind == "timeseries" else "thresholds"},
        "mappings": list(mappings(style)),
        "noValue": "nothing is scraped",
        "thresholds": {"mode": "absolute", "steps": steps},
        "unit": style["unit"],
    }
    if any(target["instant"] for target in targets):
        defaults["decimals"] = 0
    if kind in ("timeseries", "bargauge"):
        defaults["min"] = 0
    if kind == "timeseries":
        defaults["custom"] = lines(style)
    if not style.get("graph", True):
        options["graphMode"] = "none"
    return EVERY["panel"] | {
        "type": kind,
        "title": panel["title"],
        "description": panel["description"],
        "datasource": DATA_SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides(style))},
        "links": [link("What to look at and do", f"{INPUT['runbook']}#{style['runbook']}")],
        "options": options,
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
        for legend, quantile in {"half": 0.5, "95 of 100": 0.95, "99 of 100": 0.99}.items()
    }


def target(letter, query):
    legend, expression = query
    # An increase over the selected range is one number. All other expressions are drawn over time.
    instant = "$__range]" in expression
    return {
        "datasource": DATA_SOURCE,
        "expr": expand(" ".join(expression.split())),
        "instant": instant,
        "legendFormat": legend,
        "range": not instant,
        "refId": letter,
    }


def expand(text):
    for name, matchers in INPUT["matchers"].items():
        text = text.replace(f"%{name}", matchers)
    return text


def lines(style):
    """Returns how the lines of a time series are drawn."""
    custom = {
        "fillOpacity": 40 if style.get("stacked") else 10,
        "lineWidth": 1,
        "showPoints": "never",
        "thresholdsStyle": {"mode": "dashed" if "thresholds" in style else "off"},
    }
    if style.get("stacked"):
        custom["stacking"] = {"mode": "normal", "group": "A"}
    if "soft_max" in style:
        custom["axisSoftMax"] = style["soft_max"]
    return custom


def mappings(style):
    """Yields the texts that replace values."""
    for value, (text, color) in style.get("values", {}).items():
        yield {"type": "value", "options": {str(value): {"text": text, "color": color}}}
    if "from" in style:
        value, text, color = style["from"]
        result = {"text": text, "color": color}
        yield {"type": "range", "options": {"from": value, "to": None, "result": result}}


def overrides(style):
    """Yields the settings of single series."""
    for legend, color in style.get("colors", {}).items():
        properties = [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]
        yield {"matcher": {"id": "byName", "options": legend}, "properties": properties}
    if "dashed" in style:
        dashes = {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}}
        properties = [dashes, {"id": "custom.fillOpacity", "value": 0}]
        yield {"matcher": {"id": "byRegexp", "options": style["dashed"]}, "properties": properties}


def link(title, url):
    return EVERY["link"] | {"title": title, "url": url}


def variables():
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    yield EVERY["variable"] | source | {"includeAll": False, "multi": False}
    for name, series in INPUT["variables"].items():
        query = {"query": f"label_values({expand(series)}, {name})", "refId": name}
        described = {"name": name, "label": name.capitalize(), "datasource": DATA_SOURCE, "query": query}
        yield EVERY["variable"] | EVERY["query variable"] | described


if __name__ == "__main__":
    main()
