"""The words of an alert, with templates of Grafana or Prometheus for the value and the labels."""

from __future__ import annotations

import re

# index, because a map without the key would end the template: without data there is no value
GRAFANA_VALUE = '(index $values "B").Value'
PROMETHEUS_VALUE = "$value"
FORMS = {"percent": "humanizePercentage", "number": "humanize", "duration": "humanizeDuration"}


def worded(text: str, value: str) -> str:
    """Put templates in the place of `{percent}`, `{number}`, `{duration}` and `{label.NAME}`.

    Errors: KeyError for any other word in braces.
    """

    def template(match: re.Match[str]) -> str:
        word = match[1]
        if word.startswith("label."):
            return "{{ $labels." + word.removeprefix("label.") + " }}"
        return "{{ " + f"{FORMS[word]} {value}" + " }}"

    return re.sub(r"\{([^{}]+)\}", template, text)


def for_grafana(text: str) -> str:
    """Write a text with Grafana's templates."""
    return worded(text, GRAFANA_VALUE)


def for_prometheus(text: str) -> str:
    """Write a text with Prometheus' templates."""
    return worded(text, PROMETHEUS_VALUE)
