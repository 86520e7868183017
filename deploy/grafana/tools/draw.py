#!/usr/bin/env python3
"""Draws the last ten minutes of a dashboard for docs/: draw.py DASHBOARD PICTURE PROMETHEUS. Needs matplotlib."""

import json
import re
import sys
import time
from pathlib import Path

from matplotlib import pyplot

from prove import ask, filled

SECONDS = 600
STEP = 7
COLORS = {"green": "#56a64b", "blue": "#3274d9", "orange": "#ff780a", "red": "#e02f44", "dark-red": "#ad0317",
          "purple": "#8f3bb8"}


def main():
    source, picture, api = sys.argv[1:]
    dashboard, end = json.loads(Path(source).read_text()), int(time.time())
    pyplot.rcParams.update({"font.size": 7, "svg.fonttype": "none"})
    rows = 1 + max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    figure = pyplot.figure(figsize=(18, 0.36 * rows))
    for panel in dashboard["panels"]:
        x, y, w, h = (panel["gridPos"][name] for name in "xywh")
        if panel["type"] == "row":
            figure.text(0.01, 1 - (y + 1) / rows, panel["title"], weight="bold", size=11)
            continue
        left = 4 if panel["type"] == "state-timeline" else 1.4
        axes = figure.add_axes(((x + left) / 24, 1 - (y + h - 0.6) / rows, (w - left - 0.3) / 24, (h - 2) / rows))
        axes.set_title(panel["title"], loc="left", size=8, weight="bold")
        axes.set_xlim(-SECONDS / 60, 0)
        DRAW[panel["type"]](axes, panel, list(series_of(panel, api, end)))
    figure.savefig(picture, metadata={"Date": None})


def series_of(panel, api, end):
    """Yields (legend, minutes before the end, values)."""
    for target in panel["targets"]:
        expression = filled(target["expr"], "1m", f"{SECONDS}s")
        start = end if target["instant"] else end - SECONDS
        for series in ask(api, "query_range", query=expression, start=start, end=end, step=STEP):
            labels, pattern = series["metric"], target["legendFormat"].replace("__auto", "")
            legend = re.sub(r"\{\{(\w+)}}", lambda match, labels=labels: labels.get(match[1], ""), pattern)
            times, values = zip(*series["values"], strict=True)
            yield legend, [(time - end) / 60 for time in times], [float(value) for value in values]


def text_and_color(panel, value):
    """Returns the text and the color of a value."""
    defaults = panel["fieldConfig"]["defaults"]
    for mapping in defaults["mappings"]:
        is_range, options = mapping["type"] == "range", mapping["options"]
        result = options["result"] if is_range and value >= options["from"] else options.get(f"{value:g}")
        if result:
            return result["text"], COLORS[result["color"]]
    first, *others = defaults["thresholds"]["steps"]
    [*_, step] = [first, *(step for step in others if value >= step["value"])]
    texts = {"percentunit": f"{100 * value:.3g} %", "bytes": f"{value / 2**20:.0f} MiB", "s": f"{value:.3g} s"}
    return texts.get(defaults["unit"], f"{value:.3g}{defaults['unit'].partition(':')[2]}"), COLORS[step["color"]]


def draw_lines(axes, panel, series):
    defaults = panel["fieldConfig"]["defaults"]
    axes.yaxis.set_major_formatter(lambda value, _: text_and_color(panel, value)[0])
    for legend, minutes, values in series:
        axes.plot(minutes, values, label=legend, linewidth=1)
    top = max([1e-3, *(value for _, _, values in series for value in values)])
    axes.set_ylim(0, top * 1.15)
    for step in defaults["thresholds"]["steps"][1:]:
        axes.axhline(step["value"], color=COLORS[step["color"]], linestyle="--", linewidth=0.8)
    axes.legend(loc="upper left", ncols=2, frameon=False, fontsize=6)


def draw_bars(axes, panel, series):
    for legend, _, values in series:
        text, color = text_and_color(panel, round(values[-1]))
        axes.barh(f"{text}  {legend}", values[-1], color=color)
    axes.set_xlim(0, 1.1 * max([1, *(values[-1] for _, _, values in series)]))
    axes.tick_params(axis="y", direction="in", pad=-8)
    for label in axes.get_yticklabels():
        label.set_ha("left")


def draw_numbers(axes, panel, series):
    axes.set_axis_off()
    axes.set_xlim(0, len(series))
    for place, (legend, _, values) in enumerate(series):
        text, color = text_and_color(panel, values[-1])
        axes.text(place + 0.5, 0.6, text, color=color, size=12, ha="center")
        axes.text(place + 0.5, 0.2, legend, ha="center")


def draw_states(axes, panel, series):
    for legend, minutes, values in series:
        styles = [text_and_color(panel, value) for value in values]
        axes.scatter(minutes, [legend] * len(minutes), c=[color for _, color in styles], marker="s", s=110)
        axes.annotate(styles[-1][0], (minutes[-1], legend), xytext=(-6, 8), textcoords="offset points", ha="right")
    axes.margins(y=0.5)


DRAW = {"timeseries": draw_lines, "bargauge": draw_bars, "stat": draw_numbers, "state-timeline": draw_states}

if __name__ == "__main__":
    main()
