#!/usr/bin/env python3
"""Draws the panels of a dashboard as one picture (SVG), in the dashboard's own layout, from what a Prometheus answers.

It is no Grafana, but shows what one gets: the same expressions, units, colours, thresholds, mappings and places."""

import argparse
import html
import json
import math
import re
import time
from pathlib import Path

from api import Api, Series
from expressions import filled
from units import nice, shown

COLUMN, ROW, GAP, MARGIN, TITLE = 62, 34, 8, 16, 26
PAGE, CARD, EDGE, INK, FAINT = "#111217", "#181b1f", "#2c3235", "#d8d9da", "#8e9297"
COLOURS = {
    "green": "#73bf69",
    "blue": "#5794f2",
    "orange": "#ff9830",
    "red": "#f2495c",
    "dark-red": "#c4162a",
    "purple": "#b877d9",
}
PALETTE = [
    "#73bf69",
    "#f2cc0c",
    "#5794f2",
    "#ff9830",
    "#f2495c",
    "#b877d9",
    "#8ab8ff",
    "#ffb357",
    "#96d98d",
    "#ff7383",
    "#ca95e5",
    "#fade2a",
]
POINTS = 120
# Labels beside strips, at most this part of a panel; numbers narrower than this stand in several rows.
LABEL_MAX, NUMBER_MIN = 0.4, 90


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--api", required=True, help="the address of Prometheus, such as http://127.0.0.1:9090")
    arguments.add_argument("--dashboard", required=True, type=Path, help="its JSON")
    arguments.add_argument("--output", required=True, type=Path, help="the SVG")
    arguments.add_argument("--end", type=float, default=None, help="seconds since 1970; now unless given")
    arguments.add_argument("--seconds", type=float, default=3600, help="the time shown")
    arguments.add_argument("--rate-interval", default="1m", help="four times the scrape interval")
    arguments.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="job, instance, lane")
    given = arguments.parse_args()
    end = given.end or time.time()
    variables = dict(variable.split("=", 1) for variable in given.var)
    asking = Asking(Api(given.api), end - given.seconds, end, given.rate_interval, variables)
    given.output.write_text(picture(json.loads(given.dashboard.read_text()), asking))


class Asking:
    """Whom to ask for what time."""

    def __init__(self, api, start, end, rate_interval, variables):
        self.api, self.start, self.end = api, start, end
        self.rate_interval, self.variables = rate_interval, variables

    def series(self, panel):
        """The series of a panel as (name, series), in the order of its expressions."""
        for target in panel["targets"]:
            text = filled(target["expr"], self.variables, self.rate_interval, f"{int(self.end - self.start)}s")
            step = max((self.end - self.start) / POINTS, 1)
            found = (
                self.api.at(text, self.end)
                if target.get("instant")
                else self.api.between(text, self.start, self.end, step)
            )
            for series in sorted(found, key=lambda series: sorted(series.labels.items())):
                yield legend(target["legendFormat"], series.labels), Series(series.labels, finite(series.points))


def finite(points):
    return [(moment, value) for moment, value in points if not math.isnan(value)]


def legend(pattern, labels):
    if pattern == "__auto":
        return ", ".join(f"{value}" for value in labels.values()) or "value"
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), pattern)


def picture(dashboard, asking):
    """The whole dashboard."""
    parts = []
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    width, height = 24 * COLUMN + 2 * MARGIN, height * ROW + 2 * MARGIN + 40
    parts.append(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Inter, Helvetica, Arial, sans-serif" font-size="12">'
    )
    parts.append(box(0, 0, width, height, PAGE))
    parts.append(words(MARGIN, 34, dashboard["title"], INK, 20, weight=600))
    shown_from = time.strftime("%Y-%m-%d %H:%M", time.gmtime(asking.start))
    shown_to = time.strftime("%H:%M UTC", time.gmtime(asking.end))
    parts.append(words(width - MARGIN, 34, f"{shown_from} to {shown_to}", FAINT, 13, anchor="end"))
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        x, y = MARGIN + place["x"] * COLUMN, MARGIN + 40 + place["y"] * ROW
        w, h = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
        if panel["type"] == "row":
            parts.append(words(x, y + 19, f"⌄ {panel['title']}", INK, 15, weight=600))
            continue
        parts.append(box(x, y, w, h, CARD, EDGE))
        parts.append(words(x + 10, y + 18, fit(panel["title"], w - 20, 13), INK, 13, weight=600))
        drawn = list(asking.series(panel))
        inner = (x + 10, y + TITLE, w - 20, h - TITLE - 8)
        if not any(series.points for _, series in drawn):
            parts.append(words(x + w / 2, y + h / 2, panel["fieldConfig"]["defaults"]["noValue"], FAINT, 14, "middle"))
            continue
        parts.extend(DRAWN[panel["type"]](panel, drawn, inner, asking))
    parts.append("</svg>\n")
    return "\n".join(parts)


def numbers(panel, drawn, inner, asking):
    """Large numbers beside each other, in as many rows as they need and there is room for."""
    x, y, w, h = inner
    unit, decimals = in_which(panel)
    drawn = [(name, series) for name, series in drawn if series.points]
    rows = max(min(math.ceil(len(drawn) * NUMBER_MIN / w), int(h / 70)), 1)
    in_row = math.ceil(len(drawn) / rows)
    each, high = w / in_row, h / rows
    for place, (name, series) in enumerate(drawn):
        value = series.points[-1][1]
        text, colour = said(panel, value)
        text = text or shown(value, unit, decimals)
        left, top = x + place % in_row * each, y + place // in_row * high
        size = min(34, high * 0.5, 1.6 * each / max(len(text), 3))
        if panel["options"].get("graphMode") == "area" and len(series.points) > 1:
            below = (left, top + high * 0.7, each - 6, high * 0.3)
            yield path(along(series.points, below, asking, 0, None), colour, 1, 0.5)
        middle = top + high * 0.48
        yield words(left + each / 2, middle, text, colour, size, "middle", 600)
        if len(drawn) > 1:
            yield words(left + each / 2, middle + 17, fit(name, each - 4, 12), FAINT, 12, "middle")


def graph(panel, drawn, inner, asking):
    """Lines over time, stacked or not, with thresholds and a legend."""
    x, y, w, h = inner
    defaults = panel["fieldConfig"]["defaults"]
    custom, unit = defaults["custom"], defaults["unit"]
    fixed, dashed = colours(panel), dashes(panel)
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    lines = [(name, series.points) for name, series in drawn]
    if stacked:
        lines = stack(lines)
    rows = legend_rows([name for name, _ in lines], w)
    place = (x + 62, y + 6, w - 66, h - 26 - 15 * len(rows))
    top = nice(
        max([value for _, points in lines for _, value in points] + [custom.get("axisSoftMax", 0), 0]) or 1, unit
    )
    for step in range(5):
        level = top * step / 4
        at = place[1] + place[3] * (1 - step / 4)
        yield line(place[0], at, place[0] + place[2], at, EDGE)
        yield words(place[0] - 6, at + 4, shown(level, unit.partition(" ")[0]), FAINT, 11, "end")
    for step in range(5):
        moment = asking.start + (asking.end - asking.start) * step / 4
        at, anchor = place[0] + place[2] * step / 4, ("start", "middle", "middle", "middle", "end")[step]
        yield words(at, place[1] + place[3] + 14, time.strftime("%H:%M", time.gmtime(moment)), FAINT, 11, anchor)
    for place_in, (name, points) in reversed(list(enumerate(lines))):
        if stacked and not any(value for _, value in drawn[place_in][1].points):
            continue  # It adds nothing to what is below it.
        colour = fixed.get(name, PALETTE[place_in % len(PALETTE)])
        drawn_line = along(points, place, asking, 0, top)
        if stacked:
            yield area(drawn_line, place, colour)
        yield path(drawn_line, colour, 1.5, dashes="5 4" if dashed(name) else "")
    if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        for step in defaults["thresholds"]["steps"]:
            if step["value"] is not None and step["value"] <= top:
                at = place[1] + place[3] * (1 - step["value"] / top)
                yield line(place[0], at, place[0] + place[2], at, COLOURS[step["color"]], "6 4")
    for number, row in enumerate(rows):
        at = y + h - 15 * (len(rows) - 1 - number)
        for offset, place_in, name in row:
            colour = fixed.get(name, PALETTE[place_in % len(PALETTE)])
            yield box(x + offset, at - 7, 12, 4, colour)
            yield words(x + offset + 16, at, name, INK, 11)


def bars(panel, drawn, inner, _):
    """Bars under each other, the longest first."""
    x, y, w, h = inner
    unit, decimals = in_which(panel)
    values = sorted(((series.points[-1][1], name) for name, series in drawn if series.points), reverse=True)
    most, each = max(value for value, _ in values) or 1, min(h / len(values), 40)
    for place, (value, name) in enumerate(values):
        top, length = y + place * each, w * 0.48
        yield words(x + w * 0.42, top + each / 2 + 4, fit(name, w * 0.41, 11), INK, 11, "end")
        yield box(x + w * 0.44, top + 2, length, each - 5, EDGE)
        yield box(x + w * 0.44, top + 2, length * value / most, each - 5, said(panel, value)[1])
        yield words(x + w, top + each / 2 + 4, shown(value, unit, decimals), INK, 11, "end")


def strips(panel, drawn, inner, asking):
    """A strip for each series, coloured by what its value means."""
    x, y, w, h = inner
    label = min(max(6.2 * len(name) for name, _ in drawn) + 16, w * LABEL_MAX)
    each = min((h - 18) / len(drawn), 40)
    span = asking.end - asking.start
    for place, (name, series) in enumerate(drawn):
        top = y + place * each
        yield words(x + label - 8, top + each / 2 + 4, fit(name, label - 8, 11), INK, 11, "end")
        for start, end, value in runs(series.points, asking.end):
            left = x + label + (w - label) * (start - asking.start) / span
            width = (w - label) * (end - start) / span
            text, colour = said(panel, value)
            yield box(left, top + 3, width, each - 6, colour)
            if text and width > 7 * len(text) + 8:
                yield words(left + 6, top + each / 2 + 4, text, PAGE, 11, weight=600)
    for step in range(5):
        at, anchor = x + label + (w - label) * step / 4, ("start", "middle", "middle", "middle", "end")[step]
        moment = time.strftime("%H:%M", time.gmtime(asking.start + span * step / 4))
        yield words(at, y + h + 2, moment, FAINT, 11, anchor)


DRAWN = {"stat": numbers, "timeseries": graph, "bargauge": bars, "state-timeline": strips}


def in_which(panel):
    """Unit and digits after the point."""
    defaults = panel["fieldConfig"]["defaults"]
    return defaults["unit"], defaults.get("decimals")


def colours(panel):
    """The colours that series have by name."""
    return {
        override["matcher"]["options"]: COLOURS[each["value"]["fixedColor"]]
        for override in panel["fieldConfig"].get("overrides", [])
        for each in override["properties"]
        if each["id"] == "color"
    }


def dashes(panel):
    """Whether a series of a name is dashed."""
    patterns = [
        re.compile(override["matcher"]["options"].strip("/"))
        for override in panel["fieldConfig"].get("overrides", [])
        for each in override["properties"]
        if each["id"] == "custom.lineStyle"
    ]
    return lambda name: any(pattern.search(name) for pattern in patterns)


def said(panel, value):
    """What the mappings make of a value, and its colour."""
    defaults = panel["fieldConfig"]["defaults"]
    for mapping in defaults.get("mappings", []):
        options = mapping["options"]
        if mapping["type"] == "value" and f"{value:g}" in options:
            return options[f"{value:g}"]["text"], COLOURS[options[f"{value:g}"]["color"]]
        if mapping["type"] == "range" and value >= options["from"]:
            return options["result"]["text"], COLOURS[options["result"]["color"]]
    reached = [step for step in defaults["thresholds"]["steps"] if step["value"] is None or value >= step["value"]]
    return None, COLOURS[reached[-1]["color"]]


def runs(points, end):
    """Points of the same value that follow each other, as (start, end, value)."""
    found = []
    for moment, value in points:
        if found and found[-1][2] == value:
            continue
        if found:
            found[-1][1] = moment
        found.append([moment, end, value])
    return found


def stack(lines):
    """Each line on top of those before it."""
    below, stacked = {}, []
    for name, points in lines:
        raised = [(moment, value + below.get(moment, 0)) for moment, value in points]
        below.update(raised)
        stacked.append((name, raised))
    return stacked


def along(points, place, asking, low, high):
    """Points in the picture; the highest decides where none is given."""
    x, y, w, h = place
    high = high or max(value for _, value in points) or 1
    span = asking.end - asking.start
    return [
        (x + w * (moment - asking.start) / span, y + h * (1 - (min(value, high) - low) / (high - low)))
        for moment, value in points
    ]


def legend_rows(names, width):
    """Names in rows that fit, each with its place; at most three rows."""
    rows, offset = [[]], 0
    for place, name in enumerate(names):
        length = 26 + 6.2 * len(name)
        if offset + length > width and rows[-1]:
            rows.append([])
            offset = 0
        rows[-1].append((offset, place, fit(name, width - 26, 11)))
        offset += length
    return rows[:3]


def fit(text, width, size):
    """As much of a text as fits."""
    most = max(int(width / (size * 0.56)), 3)
    return text if len(text) <= most else text[: most - 1] + "…"


def box(x, y, w, h, fill, edge="none"):
    size = f'width="{max(w, 0):.1f}" height="{max(h, 0):.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} rx="2" fill="{fill}" stroke="{edge}"/>'


def line(x1, y1, x2, y2, colour, dashes=""):
    style = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}"{style}/>'


def path(points, colour, width, opacity=1.0, dashes=""):
    style = f'stroke-width="{width}"' + (f' opacity="{opacity}"' if opacity < 1 else "")
    style += f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path d="M{steps(points)}" fill="none" stroke="{colour}" {style}/>' if points else ""


def steps(points):
    """Points as a path has them, without those on the way between their neighbours."""
    rounded = [(round(x), round(y)) for x, y in points]
    kept = [
        point
        for place, point in enumerate(rounded)
        if place in (0, len(rounded) - 1) or not rounded[place - 1][1] == point[1] == rounded[place + 1][1]
    ]
    return "L".join(f"{x} {y}" for x, y in kept)


def area(points, place, colour):
    """What is below a line, which covers what was drawn before: lines are drawn from the top one down."""
    if not points:
        return ""
    floor = place[1] + place[3]
    edge = steps([(points[0][0], floor), *points, (points[-1][0], floor)])
    return f'<path d="M{edge}Z" fill="{CARD}"/><path d="M{edge}Z" fill="{colour}" opacity="0.4"/>'


def words(x, y, text, colour, size, anchor="start", weight=400):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size:.1f}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{html.escape(text)}</text>'
    )


if __name__ == "__main__":
    main()
