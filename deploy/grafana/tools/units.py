"""Numbers as people read them, by Grafana's names of units."""

import math

SECONDS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"))
BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
ROUND_S = (120, 240, 480, 960, 1200, 2400, 3600, 7200, 14400, 28800, 57600, 86400, 4 * 86400, 16 * 86400)
SHORT = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))


def shown(value, unit, decimals=None):
    """A value in its unit, with three digits that mean something, or as many after the point as is said."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "no data"
    if decimals is not None and abs(value) < 1000:
        value = round(value, decimals)
    if unit == "s":
        return scaled(value, SECONDS, " ")
    if unit == "bytes":
        return scaled(value, BYTES, " ")
    if unit == "percentunit":
        return f"{digits(value * 100)} %"
    if unit.startswith("suffix:"):
        return scaled(value, SHORT) + unit.removeprefix("suffix:")
    return scaled(value, SHORT)


def scaled(value, steps, gap=""):
    """The value in the largest step that it reaches."""
    if value == 0:
        return "0" + (gap + dict(steps)[1] if dict(steps)[1] else "")
    size, name = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    return f"{digits(value / size)}{gap if name else ''}{name}"


def nice(value, unit):
    """The next number that can be cut in four and stays round."""
    if unit == "s" and value > 60:
        return next((step for step in ROUND_S if step >= value * 0.999), value)
    if unit == "bytes":
        return 2 ** math.ceil(math.log2(value))
    size = 10 ** math.floor(math.log10(value))
    return next(step * size for step in (1, 2, 4, 8, 10) if step * size >= value * 0.999)


def digits(value):
    """Three digits, without zeros at the end."""
    places = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:.{min(places, 3)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
