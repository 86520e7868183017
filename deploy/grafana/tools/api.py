"""Prometheus' HTTP API, as much of it as is needed here."""

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

TIME_OUT_S = 30


@dataclass(frozen=True)
class Series:
    """Labels, and values as (time in seconds, value). An instant query brings one value."""

    labels: dict
    points: list


class RefusedError(Exception):
    """Prometheus did not answer the query."""


class Api:
    """A server, such as http://127.0.0.1:9090."""

    def __init__(self, address):
        self.address = address.rstrip("/")

    def at(self, expression, time):
        """The values at a moment."""
        result = self._get("query", query=expression, time=time)
        if result["resultType"] == "scalar":
            return [Series({}, [_point(result["result"])])]
        return [Series(series["metric"], [_point(series["value"])]) for series in result["result"]]

    def between(self, expression, start, end, step):
        """The values from start to end."""
        result = self._get("query_range", query=expression, start=start, end=end, step=step)
        return [Series(series["metric"], [_point(value) for value in series["values"]]) for series in result["result"]]

    def _get(self, what, **parameters):
        url = f"{self.address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=TIME_OUT_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise RefusedError(f"{parameters['query']}: {error.read(500).decode(errors='replace')}") from error
        except OSError as error:
            raise RefusedError(f"{self.address}: {error}") from error


def _point(pair):
    return float(pair[0]), float(pair[1])
