"""Make Datadog's monitors of the alert rules: `python tools/datadog.py > …/files/datadog/monitors.json` (role observability).

What an alert is called, how grave it is and what to do next stands in alerts.yml alone; here stands what Datadog is asked. It has
no clock in a query and knows hosts by itself: OTHERWISE says which alerts have no monitor, and why.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

RULES = Path(__file__).parents[1] / "playbooks" / "roles" / "observability" / "files" / "alerts.yml"
Aggregator = Literal["min", "max", "sum"]
DEVICE, SITE = ("site", "device"), ("site",)


@dataclass(frozen=True, slots=True)
class Watch:
    """What of the metrics, taken together over `minutes`, is compared with `limit`.

    by: the tags of which each value has an alert of its own.
    """

    over: Aggregator
    minutes: int
    asks: str
    compares: str
    limit: float
    by: tuple[str, ...] = SITE

    def query(self) -> str:
        """As Datadog takes it; `fl_…` in `asks` is a metric of the site's, each by the same tags."""
        tags = ",".join(self.by)

        def metric(found: re.Match[str]) -> str:
            space, name, scope, count = found.groups()
            return f"{space}:edgefl.{name}{scope or '{*}'} by {{{tags}}}{count or ''}"

        asks = re.sub(r"(min|max|sum):(fl_\w+(?:\.count)?)({\w+:\w+})?(\.as_count\(\))?", metric, self.asks)
        return f"{self.over}(last_{self.minutes}m):{asks} {self.compares} {self.limit:g}"


WATCHES = {
    "EdgeflAccuracyDropped": Watch("min", 5, "max:fl_training_best_accuracy - max:fl_training_accuracy", ">", 0.1),
    "EdgeflNoUpdateInTime": Watch("sum", 30, "sum:fl_model_updates.count{result:missing}.as_count()", ">=", 2, DEVICE),
    "EdgeflRunFailed": Watch("max", 5, "max:fl_run_failed", ">=", 1),
    "EdgeflDeviceDown": Watch(
        "max", 5, "max:fl_device_online + max:fl_device_quarantined + max:fl_device_drained", "<", 1, DEVICE
    ),
    "EdgeflQuorumLost": Watch("max", 5, "sum:fl_device_online - max:fl_quorum_devices", "<", 0),
    "EdgeflSuperlinkDown": Watch("max", 5, "max:fl_superlink_reachable", "<", 1),
    "EdgeflByzantineFlag": Watch("sum", 10, "sum:fl_device_flags.count.as_count()", ">", 0, DEVICE),
    "EdgeflBudgetLow": Watch("max", 5, "max:fl_privacy_epsilon_spent / max:fl_privacy_epsilon_limit", ">", 0.9, DEVICE),
    "EdgeflBudgetExhausted": Watch("max", 5, "max:fl_privacy_refused", ">=", 1, DEVICE),
    "EdgeflModelsBudgetLow": Watch(
        "max", 5, "max:fl_privacy_models_epsilon_spent / max:fl_privacy_models_epsilon_limit", ">", 0.9
    ),
    "EdgeflModelsBudgetExhausted": Watch("max", 5, "max:fl_privacy_models_rounds_left", "<", 1),
    "EdgeflIsolationDrift": Watch("max", 5, "min:fl_isolation_proven", "<", 1, DEVICE),
    "EdgeflIsolationProofOld": Watch("min", 5, "max:fl_isolation_proof_age_seconds", ">", 7 * 86400, DEVICE),
    "EdgeflAuditFailed": Watch("max", 5, "min:fl_audit_passed", "<", 1, ("site", "audit")),
    "EdgeflJournalBroken": Watch("max", 5, "min:fl_journal_verified", "<", 1),
}
HEALTH = "EdgeflMonitorDown"
"""Not a metric: the check's own word that it could read the monitor."""
OTHERWISE = {
    "EdgeflAccuracyLow": "what accuracy a site expects, only the site knows",
    "EdgeflNoUpdates": "what is missing only while a run goes on is no arithmetic of metrics",
    "EdgeflRoundStalled": "it compares with the time of day",
    "EdgeflCertificateNearExpiry": "it compares with the time of day",
    "EdgeflWallsChanged": "only the site's own Prometheus on a host of its own has this",
    "EdgeflWallsUnwatched": "only the site's own Prometheus on a host of its own has this",
    "EdgeflHostUnread": "hosts that an Agent watches are none of node_exporter's",
    "EdgeflDiskLow": "the Agent's own `disk` check",
    "EdgeflHostHot": "the Agent's own `temp` or SNMP checks",
    "EdgeflServiceRestarts": "the Agent's own `systemd` check",
}


def rules() -> dict[str, dict[str, Any]]:
    """Every alert rule by its name."""
    groups = YAML(typ="safe").load(RULES)["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def monitor(rule: dict[str, Any], watch: Watch | None) -> dict[str, Any]:
    """The monitor of a rule, as Datadog's API takes it; without a watch, of the check's health."""
    grave = rule["labels"]["severity"]
    name = rule["alert"]
    if watch is None:
        by: tuple[str, ...] = SITE
        kind, query = "service check", '"edgefl.openmetrics.health".over("*").by("site").last(4).count_by_status()'
        thresholds: dict[str, float] = {"critical": 3, "ok": 1}
    else:
        kind, query, by, thresholds = "query alert", watch.query(), watch.by, {"critical": watch.limit}
    whose = ", ".join(f"{tag} {{{{{tag}.name}}}}" for tag in by)
    summary, hint = (_named(rule["annotations"][part]) for part in ("summary", "next"))
    return {
        "name": name,
        "type": kind,
        "query": query,
        "message": f"{whose}: {summary} (next: {hint})",
        "tags": ["service:edgefl", f"severity:{grave}"],
        "priority": 1 if grave == "critical" else 3,
        "options": {
            "thresholds": thresholds,
            "include_tags": True,
            "notify_no_data": False,
            "require_full_window": False,
            "renotify_interval": 12 * 60,
        },
    }


def _named(text: str) -> str:
    """Prometheus' template as Datadog's: labels are tags, and every value is the one that was compared."""
    text = re.sub(r"{{ \$labels\.(\w+) }}", r"{{\1.name}}", text)
    return re.sub(r"{{ \$value[^}]* }}", "{{value}}", text)


def monitors() -> list[dict[str, Any]]:
    """All of them, in the order of the rules."""
    return [monitor(rule, WATCHES.get(name)) for name, rule in rules().items() if name in WATCHES or name == HEALTH]


if __name__ == "__main__":
    json.dump(monitors(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
