#!/usr/bin/env python3
"""Sends the expressions of the dashboards and rules to a Prometheus that scrapes imageshare. Fails if one has no value.

Of a rule or an annotation, only what it selects is requested: an alert that does not fire returns nothing. Of a panel, what it selects
is requested too, since an expression may have a default."""

import argparse
import json
import re
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

DEPLOY = Path(__file__).resolve().parents[2]

# A name with an underscore or a colon is a metric or a recording rule, unless it is a call or a grouping modifier.
SELECTOR = re.compile(r"(?<![\w:])([a-z]\w*[_:][\w:]*)(?![\w:]*\s*\()(\{.*?\})?")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--api", required=True, help="address of Prometheus, such as http://127.0.0.1:9090")
    arguments.add_argument("--rate-interval", default="1m", help="four times the scrape interval")
    arguments.add_argument("--range", default="1h", help="the selected time range")
    given = arguments.parse_args()
    requests = [(place, filled(expression, given.rate_interval, given.range)) for place, expression, _ in of_panels()]
    marks = [(place, filled(expression, given.rate_interval, given.range)) for place, expression, _ in of_annotations()]
    for place, expression in requests + marks + [(place, expression) for place, expression, _ in of_rules()]:
        # The value excluded by `!=` must exist too.
        requests += [(place, "".join(selector).replace("!=", "=")) for selector in SELECTOR.findall(expression)]
    failed = 0
    for place, expression in requests:
        values = {series["value"][1] for series in ask(given.api, "query", query=expression)}
        if not values - {"NaN"}:
            failed += 1
            print(f"error: {place}: {expression}: no value (received {values})", file=sys.stderr)
    print(f"{len(requests)} requests, {failed} without a value", file=sys.stderr)
    sys.exit(bool(failed))


def of_panels():
    """Yields (location, expression with Grafana's variables, runbook) of the dashboards."""
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.name}: {panel['title']}", target["expr"], panel["links"][0]["url"]


def of_annotations():
    """Yields (location, expression with Grafana's variables, None) of the annotations, which have no runbook."""
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        for mark in json.loads(path.read_text())["annotations"]["list"]:
            yield f"{path.name}: {mark['name']}", mark["expr"], None


def of_rules():
    """Yields (location, expression, runbook) of the alerts, and of the recording rules, which have no runbook."""
    for name in ("recording.yml", "alerts.yml"):
        for group in yaml.safe_load((DEPLOY / "prometheus" / name).read_text())["groups"]:
            for rule in group["rules"]:
                runbook = rule["annotations"]["runbook_url"] if "alert" in rule else None
                yield f"{name}: {rule.get('alert') or rule['record']}", rule["expr"], runbook


def filled(expression, rate_interval, time_range):
    """Replaces the variables of a dashboard."""
    values = {"__rate_interval": rate_interval, "__range": time_range}
    # The other variables are regular expressions for labels. A label that does not exist is empty, and must not match.
    return re.sub(r"\$(\w+)", lambda match: values.get(match[1], ".+"), expression)


def ask(api, path, **parameters):
    """Returns the series in the response of a Prometheus."""
    try:
        with urlopen(f"{api}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as response:
            return json.load(response)["data"]["result"]
    except HTTPError as error:
        sys.exit(f"error: {parameters}: {json.load(error)['error']}")


if __name__ == "__main__":
    main()
