"""Who hears of an alert, when and how: contact points, policies, the night, and messages.

A channel is used when its variable is set in Grafana's environment. Grafana does not start with an
empty address, so each has an end that keeps it from being empty: a fragment, which no client sends,
and a separator, which Grafana drops. A route is taken when its matcher holds; no alert has the
label `channel`, so it differs from the variable exactly when that is set
(test_grafana_starts_and_tells_the_channels_that_are_set).
"""

from __future__ import annotations

from typing import Any

WEBHOOK, EMAIL, NIGHTS = "shopstream-webhook", "shopstream-email", "shopstream-nights"
WEBHOOK_VARIABLE, EMAIL_VARIABLE = "SHOPSTREAM_ALERT_WEBHOOK_URL", "SHOPSTREAM_ALERT_EMAIL"
RUNBOOK_VARIABLE = "SHOPSTREAM_RUNBOOK_URL"
# when people sleep; Grafana expands no variables here
NIGHT = (("22:00", "24:00"), ("00:00", "07:00"))
NIGHT_LOCATION = "UTC"

TITLE = """{{ define "shopstream.title" -}}
[{{ if .Alerts.Firing }}{{ len .Alerts.Firing }} firing{{ else }}resolved{{ end }}] shopstream
{{- with .GroupLabels.area }} {{ . }}{{ end }}
{{- with .GroupLabels.severity }} ({{ . }}){{ end }}
{{- end }}"""
# a path: the message puts the root of the Grafana that sends it before it
BOARD = '{{ reReplaceAll "/d/.*" "" .DashboardURL }}{{ .Annotations.runbook_url }}'
MESSAGE = (
    f"""{{{{ define "shopstream.runbook" }}}}{BOARD}{{{{ end }}}}
"""
    + """{{ define "shopstream.alert" }}
{{ .Labels.alertname }}: {{ .Annotations.summary }}
  {{ .Annotations.description }}
  since {{ .StartsAt.UTC.Format "2006-01-02 15:04 UTC" }}, {{ .Labels.severity }}, \
team {{ .Labels.team }}
  runbook: {{ template "shopstream.runbook" . }}
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
)
TITLE_OF = '{{ template "shopstream.title" . }}'
# Grafana expands variables in contact points, and in no template: so the message of a contact point
# says where the runbook is, in the place of what the template says.
_OWN = f"${{{RUNBOOK_VARIABLE}}}"
MESSAGE_OF = (
    f'{{{{ define "shopstream.runbook" }}}}{{{{ if "{_OWN}" }}}}{_OWN}#'
    f"{{{{ .Annotations.runbook_section }}}}{{{{ else }}}}{BOARD}{{{{ end }}}}{{{{ end }}}}"
    '{{ template "shopstream.message" . }}'
)


def contact_points() -> dict[str, Any]:
    """Make the content of the file of contact points: a webhook and an e-mail address."""
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


def _route(receiver: str, variable: str) -> dict[str, Any]:
    # what is critical goes out at once and at any hour, the rest waits for the morning
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
    """Make the content of the file of policies: the whole tree, since Grafana has only one.

    The root gets what no channel takes; that it cannot be sent is then in Grafana's log.
    """
    root = {
        "orgId": 1,
        "receiver": WEBHOOK,
        "group_by": ["grafana_folder", "area", "severity"],
        "group_wait": "30s",
        "group_interval": "5m",
        "repeat_interval": "4h",
        "routes": [_route(EMAIL, EMAIL_VARIABLE), _route(WEBHOOK, WEBHOOK_VARIABLE)],
    }
    return {"apiVersion": 1, "policies": [root]}


def mute_timings() -> dict[str, Any]:
    """Make the content of the file of the night."""
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
    """Make the content of the file of message templates."""
    return {
        "apiVersion": 1,
        "templates": [{"orgId": 1, "name": "shopstream", "template": f"{TITLE}\n{MESSAGE}\n"}],
    }
