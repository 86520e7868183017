"""The few kinds of panel that the dashboards are made of, on Grafana's own types.

In an expression, %process and %lane stand for the matchers of the dashboard's variables.
"""

from dataclasses import dataclass

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common as types
from grafana_foundation_sdk.models import dashboard as model

# Stands for wherever docs/operations.md is kept.
DOCS = "https://docs.example.com/imageshare/operations.md"

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
PROCESS = 'job=~"$job", instance=~"$instance"'
LANE = PROCESS + ', lane=~"$lane"'

# Units in Grafana's words.
ACCOUNTS_PER_SECOND = "suffix: accounts/s"
BYTES = "bytes"
COUNT = "short"
PER_SECOND = "suffix:/s"
SECONDS = "s"
SHARE = "percentunit"

# A time that has no end, such as that of a credential that does not expire, is shown as this many seconds.
ENDLESS = 10 * 365 * 24 * 3600

PANEL_HEIGHT = 8
STAT_HEIGHT = 4
GRID_WIDTH = 24


@dataclass(frozen=True)
class Look:
    """What every panel has: its name, what it means, its unit, from which values on it has which colour."""

    title: str
    description: str
    unit: str
    # The part of docs/operations.md that says what to do.
    section: str
    # Value and colour, rising; below the first one it is green.
    thresholds: tuple = ()
    width: int = 8
    mappings: tuple = ()
    # Digits after the point; Grafana decides unless it is said.
    decimals: int | None = None


def text(value, words, colour):
    """Shows a value as words."""
    return model.ValueMap({str(value): model.ValueMappingResult(text=words, color=colour)})


def text_from(value, words, colour):
    """Shows everything from a value on as words."""
    result = model.ValueMappingResult(text=words, color=colour)
    return model.RangeMap(model.DashboardRangeMapOptions(from_val=value, to=None, result=result))


def query(expression, legend="", instant=False):
    expression = " ".join(expression.split()).replace("%process", PROCESS).replace("%lane", LANE)
    made = prometheus.Dataquery().expr(expression).datasource(SOURCE).legend_format(legend or "__auto")
    return made.instant() if instant else made.range()


def number(look, *queries, graph=True, height=STAT_HEIGHT):
    """The latest value of each query, large."""
    mode = types.BigValueGraphMode.AREA if graph else types.BigValueGraphMode.NONE
    panel = stat.Panel().graph_mode(mode).color_mode(types.BigValueColorMode.VALUE).reduce_options(_last())
    return _dressed(panel, look, queries, height, model.FieldColorModeId.THRESHOLDS)


def lines(look, *queries, stacked=False, at_most=None, colours=None, dashed=None):
    """Values over time. The thresholds above the lowest are drawn as lines. Series may have colours, by name; those
    that a pattern finds are dashed."""
    style = types.GraphThresholdsStyleMode.DASHED if look.thresholds else types.GraphThresholdsStyleMode.OFF
    legend = common.VizLegendOptions().show_legend(True).placement(types.LegendPlacement.BOTTOM)
    legend = legend.display_mode(types.LegendDisplayMode.LIST).calcs([])
    tooltip = common.VizTooltipOptions().mode(types.TooltipDisplayMode.MULTI).sort(types.SortOrder.DESCENDING)
    panel = timeseries.Panel().legend(legend).tooltip(tooltip).min(0).line_width(1)
    panel = panel.fill_opacity(40 if stacked else 10).show_points(types.VisibilityMode.NEVER)
    panel = panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(style))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(types.StackingMode.NORMAL).group("A"))
    if at_most is not None:
        panel = panel.axis_soft_max(at_most)
    for name, colour in (colours or {}).items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel = panel.override_by_name(name, [model.DynamicConfigValue("color", fixed)])
    if dashed:
        style = {"fill": "dash", "dash": [8, 6]}
        unfilled = model.DynamicConfigValue("custom.fillOpacity", 0)
        panel = panel.override_by_regexp(dashed, [model.DynamicConfigValue("custom.lineStyle", style), unfilled])
    return _dressed(panel, look, queries, PANEL_HEIGHT, model.FieldColorModeId.PALETTE_CLASSIC)


def bars(look, *queries):
    """The latest value of each series, as bars under each other."""
    panel = bargauge.Panel().display_mode(types.BarGaugeDisplayMode.BASIC).reduce_options(_last()).min(0)
    panel = panel.orientation(types.VizOrientation.HORIZONTAL)
    return _dressed(panel, look, queries, PANEL_HEIGHT, model.FieldColorModeId.THRESHOLDS)


def states(look, *queries):
    """Which state each series was in, over time."""
    panel = statetimeline.Panel().show_value(types.VisibilityMode.AUTO).row_height(0.8).merge_values(True)
    panel = panel.legend(common.VizLegendOptions().show_legend(False).calcs([]))
    return _dressed(panel, look, queries, PANEL_HEIGHT, model.FieldColorModeId.THRESHOLDS)


def dashboard_of(uid, title, description, other_uid, other_title, rows):
    """A dashboard of rows, each with a title and panels."""
    made = dashboard.Dashboard(title).uid(uid).description(description).tags(["imageshare"]).readonly()
    made = made.timezone("browser").refresh("30s").time("now-1h", "now").tooltip(model.DashboardCursorSync.CROSSHAIR)
    made = made.link(_link("Runbook", DOCS)).link(
        _link(other_title, f"/d/{other_uid}").include_vars(True).keep_time(True)
    )
    for variable in _variables():
        made = made.with_variable(variable)
    panel_id = 0
    for row_title, panels in rows:
        panel_id += 1
        made = made.with_row(dashboard.Row(row_title).id(panel_id))
        for panel in panels:
            panel_id += 1
            made = made.with_panel(panel.id(panel_id))
    return made.build()


def _dressed(panel, look, queries, height, colour):
    steps = [model.Threshold(None, "green"), *(model.Threshold(value, name) for value, name in look.thresholds)]
    thresholds = dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)
    panel = panel.title(look.title).description(" ".join(look.description.split())).unit(look.unit)
    panel = panel.datasource(SOURCE).thresholds(thresholds).color_scheme(dashboard.FieldColor().mode(colour))
    panel = panel.links([_link("What to look at and do", f"{DOCS}#{look.section}")])
    panel = panel.mappings(list(look.mappings)).no_value("nothing is scraped").height(height).span(look.width)
    if look.decimals is not None:
        panel = panel.decimals(look.decimals)
    for place, target in enumerate(queries):
        panel = panel.with_target(target.ref_id(chr(ord("A") + place)))
    return panel


def _last():
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _link(title, url):
    link = dashboard.DashboardLink(title).type(model.DashboardLinkType.LINK).url(url).target_blank(True)
    return link.icon("doc").tooltip("").tags([])


def _variables():
    yield dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    of = {
        "job": "label_values(imageshare_build_info, job)",
        "instance": 'label_values(imageshare_build_info{job=~"$job"}, instance)',
        "lane": f"label_values(imageshare_lane_state{{{PROCESS}}}, lane)",
    }
    for name, values in of.items():
        variable = dashboard.QueryVariable(name).label(name.capitalize()).datasource(SOURCE)
        variable = variable.query({"query": values, "refId": name}).multi(True).include_all(True).all_value(".*")
        variable = variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        variable = variable.sort(model.VariableSort.NATURAL_ASC)
        yield variable.current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
