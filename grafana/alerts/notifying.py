"""Who is told, when and how: contact points, policies, the night, and the words of a message.

A channel is there when its variable is set in Grafana's environment. Grafana does not start with an
empty address, so each has a tail that keeps it from being empty: a fragment, which is never sent,
and a separator, which is dropped. A route is taken when its matcher holds; the label `channel` is
on no alert, so it differs from the variable when that is set.
"""

from __future__ import annotations

from typing import Any

WEBHOOK, EMAIL, NIGHTS = "shopstream-webhook", "shopstream-email", "shopstream-nights"
WEBHOOK_VARIABLE, EMAIL_VARIABLE = "SHOPSTREAM_ALERT_WEBHOOK_URL", "SHOPSTREAM_ALERT_EMAIL"
# when people sleep; Grafana expands no variables here
NIGHT = (("22:00", "24:00"), ("00:00", "07:00"))
NIGHT_LOCATION = "UTC"

TITLE = """{{ define "shopstream.title" -}}
[{{ if .Alerts.Firing }}{{ len .Alerts.Firing }} firing{{ else }}resolved{{ end }}] shopstream
{{- with .GroupLabels.area }} {{ . }}{{ end }}
{{- with .GroupLabels.severity }} ({{ . }}){{ end }}
{{- end }}"""
MESSAGE = """{{ define "shopstream.alert" }}
{{ .Labels.alertname }}: {{ .Annotations.summary }}
  {{ .Annotations.description }}
  since {{ .StartsAt.UTC.Format "2006-01-02 15:04 UTC" }}, {{ .Labels.severity }}, team {{ .Labels.team }}
  runbook: {{ .Annotations.runbook_url }}
{{- if .PanelURL }}
  panel: {{ .PanelURL }}{{ end }}
{{- if .SilenceURL }}
  silence: {{ .SilenceURL }}{{ end }}
{{ end }}
{{ define "shopstream.message" }}
{{- range .Alerts.Firing }}{{ template "shopstream.alert" . }}{{ end }}
{{- if .Alerts.Resolved }}
Resolved:
{{- range .Alerts.Resolved }}
- {{ .Labels.alertname }}: {{ .Annotations.summary }}
{{- end }}
{{- end }}
{{- end }}"""
TITLE_OF, MESSAGE_OF = (
    '{{ template "shopstream.title" . }}',
    '{{ template "shopstream.message" . }}',
)


def contact_points() -> dict[str, Any]:
    webhook = {
        "url": f"${{{WEBHOOK_VARIABLE}}}#shopstream",
        "httpMethod": "POST",
        "title": TITLE_OF,
        "message": MESSAGE_OF,
    }
    email = {
        "addresses": f"${{{EMAIL_VARIABLE}}};",
        "singleEmail": True,
        "subject": TITLE_OF,
        "message": MESSAGE_OF,
    }
    points = ((WEBHOOK, "webhook", webhook), (EMAIL, "email", email))
    return {
        "apiVersion": 1,
        "contactPoints": [
            {
                "orgId": 1,
                "name": name,
                "receivers": [
                    {
                        "uid": name,
                        "type": kind,
                        "disableResolveMessage": False,
                        "settings": settings,
                    }
                ],
            }
            for name, kind, settings in points
        ],
    }


def route(receiver: str, variable: str) -> dict[str, Any]:
    """A channel: what is critical goes out at once and at any hour, the rest waits for the morning."""
    return {
        "receiver": receiver,
        "object_matchers": [["channel", "!=", f"${{{variable}}}"]],
        "continue": True,
        "routes": [
            {
                "receiver": receiver,
                "object_matchers": [["severity", "=", "critical"]],
                "group_wait": "10s",
                "group_interval": "2m",
                "repeat_interval": "1h",
            },
            {
                "receiver": receiver,
                "object_matchers": [["severity", "!=", "critical"]],
                "mute_time_intervals": [NIGHTS],
            },
        ],
    }


def policies() -> dict[str, Any]:
    """The whole tree: Grafana has only one. The root hears what nobody else was named for, and its
    failure is in the log.
    """
    root = {
        "orgId": 1,
        "receiver": WEBHOOK,
        "group_by": ["grafana_folder", "area", "severity"],
        "group_wait": "30s",
        "group_interval": "5m",
        "repeat_interval": "4h",
        "routes": [route(EMAIL, EMAIL_VARIABLE), route(WEBHOOK, WEBHOOK_VARIABLE)],
    }
    return {"apiVersion": 1, "policies": [root]}


def mute_timings() -> dict[str, Any]:
    times = [{"start_time": start, "end_time": end} for start, end in NIGHT]
    return {
        "apiVersion": 1,
        "muteTimes": [
            {
                "orgId": 1,
                "name": NIGHTS,
                "time_intervals": [{"times": times, "location": NIGHT_LOCATION}],
            }
        ],
    }


def templates() -> dict[str, Any]:
    return {
        "apiVersion": 1,
        "templates": [{"orgId": 1, "name": "shopstream", "template": f"{TITLE}\n{MESSAGE}\n"}],
    }
