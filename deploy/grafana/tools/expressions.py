"""What is asked of Prometheus: the expressions of dashboards and rules, and the metrics that there are."""

import json
import re
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parent.parent.parent
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
OPERATIONS = DEPLOY.parent / "docs" / "operations.md"
METRICS = DEPLOY / "prometheus" / "metrics.txt"
RULES = [DEPLOY / "prometheus" / name for name in ("recording.yml", "alerts.yml")]

# What Grafana would put in: four times the scrape interval of deploy/prometheus/prometheus.yml, and the time shown.
RATE_INTERVAL = "1m"
RANGE = "1h"

# How metrics.txt writes a label value that there is for each lane.
OF_EACH_LANE = "lane:LANE"

# Labels that Prometheus itself gives to whatever it scrapes.
OF_PROMETHEUS = {"job", "instance"}


@dataclass(frozen=True)
class Expression:
    """An expression, and where it stands."""

    place: str
    text: str


@dataclass
class Metric:
    """A metric as metrics.txt has it. A label whose values are not closed has none here."""

    name: str
    kind: str
    help: str
    labels: dict
    buckets: list = field(default_factory=list)
    # For each line on which it stands, for each of its labels: how many values it has, and how many more for each lane.
    values: list = field(default_factory=list)

    def series(self, lanes):
        """How many series of Prometheus it is."""
        each = len(self.buckets) + 3 if self.kind == "histogram" else 1
        return each * sum(prod(fixed + of_lane * lanes for fixed, of_lane in labels) for labels in self.values)

    def exported(self):
        """The names under which it is scraped."""
        if self.kind == "histogram":
            return {self.name + suffix for suffix in ("_bucket", "_sum", "_count")}
        return {self.name}


def metrics(path=METRICS):
    """The metrics of metrics.txt by name."""
    found, sets, current = {}, {}, None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("set "):
            _, name, *values = line.split()
            sets.setdefault(name, []).extend(values)
        elif line.startswith("    buckets "):
            current.buckets = [float(bound) for bound in line.split()[1:]]
        elif line.startswith("    "):
            current.help = f"{current.help} {line.strip()}".strip()
        else:
            match = re.fullmatch(r"(counter|gauge|histogram) (\w+)\{(.*)\}", line)
            if not match:
                raise ValueError(f"{path}:{number}: found {line!r}, allowed is: TYPE NAME{{LABEL, LABEL=VALUE|@SET}}")
            kind, name, labels = match.groups()
            current = found.setdefault(name, Metric(name, kind, "", {}))
            # Where it stands once more, its text does too.
            current.help = ""
            _take_labels(current, labels, sets)
    return found


def _take_labels(metric, text, sets):
    counts = []
    for label in filter(None, text.split(", ")):
        name, _, values = label.partition("=")
        known = [
            each for value in values.split("|") for each in (sets[value[1:]] if value[:1] == "@" else [value]) if each
        ]
        closed = [value for value in known if value != OF_EACH_LANE]
        is_of_lane = name == "lane" or len(closed) < len(known)
        counts.append((0 if name == "lane" else max(len(closed), 1), int(is_of_lane)))
        metric.labels.setdefault(name, set()).update([] if is_of_lane else closed)
    metric.values.append(counts)


def of_dashboards(paths=None):
    """Every expression of every panel and variable, with the variables of the dashboard still in it."""
    for path in paths or DASHBOARDS:
        for panel in panels(path):
            for target in panel.get("targets", []):
                yield Expression(f"{path.name}: {panel['title']}: {target['refId']}", target["expr"])


def panels(path):
    """The panels of a dashboard, without its rows."""
    return [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]


def rules():
    """Every rule."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield path, rule


def of_rules():
    """Every expression of every rule."""
    for path, rule in rules():
        yield Expression(f"{path.name}: {rule.get('alert') or rule['record']}", rule["expr"])


def filled(text, variables=None, rate_interval=RATE_INTERVAL, time_shown=RANGE):
    """The expression with the variables of the dashboard filled in: `.*` for whatever is not named."""
    values = {"__rate_interval": rate_interval, "__range": time_shown, "job": ".*", "instance": ".*", "lane": ".*"}
    values.update(variables or {})
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], text)


KEYWORDS = {"and", "bool", "by", "group_left", "group_right", "ignoring", "offset", "on", "or", "unless", "without"}
GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(?!\s*\(|[\w:])")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


def selectors(text):
    """What an expression selects: names, each with its matchers as (label, operator, value)."""
    text = GROUPING.sub(" ", text)
    text = re.sub(r"\[[^]]*\]", " ", text)
    for match in SELECTOR.finditer(text):
        name, matchers = match.groups()
        if name not in KEYWORDS and not re.match(r"\d", name):
            yield name, MATCHER.findall(matchers or "")


def groupings(text):
    """The labels that an expression groups or matches by."""
    return {label.strip() for match in GROUPING.finditer(text) for label in match[1].split(",") if label.strip()}
