"""The expressions of the dashboards and of the Prometheus rules."""

import json
import re
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
DASHBOARDS = sorted((REPOSITORY / "deploy" / "grafana" / "dashboards").glob("*.json"))
PROMETHEUS = REPOSITORY / "deploy" / "prometheus"

# A name with an underscore or a colon is a metric or a recording rule, unless it is a call or a grouping modifier.
SELECTOR = re.compile(r"(?<![\w:])([a-z]\w*[_:][\w:]*)(?![\w:]*\s*\()(?:\{(.*?)\})?")


def panels():
    """Yields (location, panel), without rows."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            if panel["type"] != "row":
                yield f"{path.name}: {panel['title']}", panel


def rules():
    """Yields (location, rule)."""
    for path in (PROMETHEUS / "recording.yml", PROMETHEUS / "alerts.yml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield f"{path.name}: {rule.get('alert') or rule['record']}", rule


def filled(expression, rate_interval="1m", time_range="1h"):
    """Replaces the variables of a dashboard. The default interval fits deploy/prometheus/prometheus.yml."""
    values = {"__rate_interval": rate_interval, "__range": time_range}
    # The other variables are regular expressions for labels.
    return re.sub(r"\$(\w+)", lambda match: values.get(match[1], ".*"), expression)


def of_panels(**variables):
    """Yields (location, expression) with the variables replaced."""
    for location, panel in panels():
        for target in panel["targets"]:
            yield location, filled(target["expr"], **variables)


def of_rules():
    for location, rule in rules():
        yield location, rule["expr"]


def selectors(expression):
    """Returns (name, matchers) of each selected metric."""
    return SELECTOR.findall(expression)
