"""Make Grafana's dashboards of one typed source: `python tools/dashboards.py playbooks/roles/observability/files/dashboards`.

Needs grafana-foundation-sdk (the extra `dev`), Grafana's own library of builders; the JSON that it makes lies in the role, so
that nobody who only uses the dashboards needs it. tests/monitor/test_dashboards.py runs every expression against a Prometheus.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import Dashboard, DashboardCursorSync, DataSourceRef, VariableRefresh

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH, STAT_WIDTH, STAT_HEIGHT, HEIGHT = 12, 4, 4, 8
Unit = Literal["short", "none", "percentunit", "s", "bytes", "Bps", "celsius", "bool_yes_no", "dateTimeFromNow"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. queries: the expression of each of its lines, by the line's legend. is_figure: only the newest value."""

    title: str
    unit: Unit
    queries: dict[str, str]
    is_figure: bool = False
    says: str = ""

    def built(self) -> timeseries.Panel | stat.Panel:
        """As Grafana takes it."""
        if self.is_figure:
            panel: timeseries.Panel | stat.Panel = stat.Panel().span(STAT_WIDTH).height(STAT_HEIGHT)
        else:
            legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
            panel = timeseries.Panel().span(WIDTH).height(HEIGHT).legend(legend.show_legend(True))
        panel.title(self.title).unit(self.unit).description(self.says).datasource(SOURCE)
        for letter, (name, expression) in zip("ABCDEF", self.queries.items(), strict=False):
            panel.with_target(prometheus.Dataquery().expr(expression).legend_format(name).ref_id(letter).datasource(SOURCE))
        return panel


def figure(title: str, unit: Unit, expression: str, says: str = "") -> Panel:
    """One number."""
    return Panel(title, unit, {"": expression}, is_figure=True, says=says)


def per(label: str, title: str, unit: Unit, expression: str, says: str = "") -> Panel:
    """One line for each value of a label."""
    return Panel(title, unit, {f"{{{{{label}}}}}": expression}, says=says)


def of(metric: str, **labels: str) -> str:
    """A metric of the site that is looked at, with these labels."""
    matchers = ['site="$site"', *(f'{name}="{value}"' for name, value in labels.items())]
    return f"{metric}{{{', '.join(matchers)}}}"


def models(expression: str) -> str:
    """What the models themselves have, as if they were one more device."""
    return f'label_replace({expression}, "device", "the models", "", "")'


SCORE, THRESHOLD = of("fl_device_anomaly_score"), of("fl_device_anomaly_threshold")
MODELS_SPENT = f"{of('fl_privacy_models_epsilon_spent')} / {of('fl_privacy_models_epsilon_limit')}"
SPENT = f"{of('fl_privacy_epsilon_spent')} / {of('fl_privacy_epsilon_limit')} or {models(MODELS_SPENT)}"
AND_MODELS = "Of the models, too, where whole devices are protected."
ENDS, LIFE = of("fl_certificate_expiry_timestamp_seconds"), of("fl_certificate_life_seconds")
FIRST_END = f"min({of('fl_certificate_expiry_timestamp_seconds', role='device')})"
FREE_DISK = f"{of('node_filesystem_avail_bytes')} / {of('node_filesystem_size_bytes')} > 0"
FREE_MEMORY = f"{of('node_memory_MemAvailable_bytes')} / {of('node_memory_MemTotal_bytes')}"
ALSO_DEVICES = "Of devices, too, where the site has them watched."

TRAINING = [
    figure("Accuracy", "percentunit", of("fl_training_accuracy")),
    figure("Best accuracy", "percentunit", of("fl_training_best_accuracy")),
    figure("Loss", "short", of("fl_training_loss")),
    figure("Round", "none", of("fl_run_round")),
    figure("Of rounds", "none", of("fl_run_rounds")),
    figure("A run goes on", "bool_yes_no", of("fl_run_active")),
    Panel("Accuracy", "percentunit", {"now": of("fl_training_accuracy"), "best": of("fl_training_best_accuracy")}),
    Panel("Loss", "short", {"loss": of("fl_training_loss")}),
    per("device", "Accuracy of each device", "percentunit", of("fl_device_accuracy")),
    per("device", "Loss of each device", "short", of("fl_device_loss")),
    Panel(
        "Convergence", "percentunit", {"loss falls by": of("fl_training_convergence_ratio")}, says="Share of the loss, a round."
    ),
    Panel(
        "Stability", "percentunit", {"deviation": of("fl_training_accuracy_deviation")}, says="Of the accuracy, over five rounds."
    ),
    per("stage", "Where a round's time goes", "s", of("fl_last_round_stage_seconds")),
    per("result", "Updates", "short", f"sum by (result) ({of('fl_model_updates_total')})"),
    per("result", "Rounds", "short", of("fl_rounds_total")),
    Panel("Seconds of a round", "s", {"round": of("fl_last_round_seconds"), "deadline": of("fl_round_deadline_seconds")}),
]
COMMUNICATION = [
    figure("Sent by devices", "bytes", f"sum({of('fl_update_bytes_total', direction='up')})"),
    figure("Sent to devices", "bytes", f"sum({of('fl_update_bytes_total', direction='down')})"),
    figure("Updates are smaller by", "short", of("fl_compression_ratio", direction="up"), "Times, against float32."),
    figure("Models are smaller by", "short", of("fl_compression_ratio", direction="down"), "Times, against float32."),
    figure("Slowest answer", "s", f"max({of('fl_device_round_trip_seconds')})"),
    figure("Median answer", "s", f"quantile(0.5, {of('fl_device_round_trip_seconds')})"),
    per("direction", "Rate", "Bps", f"sum by (direction) (rate({of('fl_update_bytes_total')}[$__rate_interval]))"),
    per("direction", "Bytes of a round", "bytes", of("fl_last_round_bytes")),
    per("direction", "Compression", "short", of("fl_compression_ratio")),
    per("device", "Round trip", "s", of("fl_device_round_trip_seconds"), "From the question to the answer, in the last round."),
    per("device", "Training", "s", of("fl_device_train_seconds")),
    per("device", "On the way", "s", of("fl_device_transfer_seconds")),
    per("device", "Bytes sent by each device", "bytes", of("fl_update_bytes_total", direction="up")),
    per("device", "Bytes sent to each device", "bytes", of("fl_update_bytes_total", direction="down")),
]
SECURITY = [
    figure("Isolated as the site says", "bool_yes_no", f"min({of('fl_isolation_proven')})"),
    figure("Journal holds", "bool_yes_no", of("fl_journal_verified")),
    figure("Flags", "none", f"sum({of('fl_device_flags_total')})"),
    figure("Kept from rounds", "none", f"sum({of('fl_device_quarantined')})"),
    figure("Most of a budget spent", "percentunit", f"max({SPENT})"),
    figure("First device's certificate ends in", "s", f"{FIRST_END} - time()"),
    per("device", "Flags of each device", "short", of("fl_device_flags_total")),
    per("rule", "Flags by rule", "short", of("fl_flags_total")),
    per("device", "Anomaly score", "short", of("fl_device_anomaly_score")),
    per("device", "Score over threshold", "percentunit", f"{SCORE} / {THRESHOLD}"),
    per("device", "Reputation", "percentunit", of("fl_device_reputation")),
    per("device", "Budget spent", "percentunit", SPENT, AND_MODELS),
    per("device", "Rounds until a budget ends", "none",
        f"{of('fl_privacy_rounds_left')} or {models(of('fl_privacy_models_rounds_left'))}", AND_MODELS),
    per("epsilon", "Membership audit, AUC", "short", of("fl_audit_membership_auc"), "0.5 is a guess."),
    per("device", "Age of the isolation's proof", "s", of("fl_isolation_proof_age_seconds")),
    per("device", "Paths against the site", "none", of("fl_isolation_wrong_paths")),
    per("subject", "Life left of certificates", "percentunit", f"({ENDS} - time()) / {LIFE}"),
]  # fmt: skip
SYSTEM = [
    figure("Monitor answers", "bool_yes_no", 'up{job="edgefl", site="$site"}'),
    figure("SuperLink answers", "bool_yes_no", of("fl_superlink_reachable")),
    figure("Last event", "s", f"time() - {of('fl_journal_last_event_timestamp_seconds')}"),
    figure("Events", "none", of("fl_journal_last_seq")),
    figure("Least memory free", "percentunit", f"min({FREE_MEMORY})"),
    figure("Least disk free", "percentunit", f"min({FREE_DISK})"),
    per("host", "CPU busy", "percentunit",
        f"1 - avg by (host) (rate({of('node_cpu_seconds_total', mode='idle')}[$__rate_interval]))", ALSO_DEVICES),
    per("host", "Memory free", "percentunit", FREE_MEMORY, ALSO_DEVICES),
    per("host", "Disk free", "percentunit", f"min by (host) ({FREE_DISK})", "Of the file system that has least."),
    Panel("Network of hosts", "Bps", {"{{host}} {{device}}": f"rate({of('node_network_receive_bytes_total')}[$__rate_interval])"},
          says="Of the coordinator and of a host of its own that watches, by interface; devices do not tell theirs."),
    per("host", "Restarts of services", "none", f"sum by (host) ({of('node_systemd_service_restart_total')})",
        "Where systemd answers node_exporter."),
    per("host", "Temperature", "celsius", f"max by (host) ({of('node_hwmon_temp_celsius')} or {of('node_thermal_zone_temp')})",
        "The hottest of the host's sensors and thermal zones, where it has any."),
    per("device", "Cores that devices keep busy", "short", of("fl_device_cores_busy")),
    Panel("Events a second", "short", {"events": f"rate({of('fl_journal_last_seq')}[$__rate_interval])"}),
]  # fmt: skip
FLEET = [
    figure("Online", "none", f"sum({of('fl_device_online')})"),
    figure("Needed", "none", of("fl_quorum_devices")),
    figure("Left out by the last up", "none", f"sum({of('fl_device_unfit')})"),
    figure("Records", "short", f"sum({of('fl_device_samples')})"),
    figure("Cores", "short", f"sum({of('fl_device_cores')})"),
    figure("Memory", "bytes", f"sum({of('fl_device_memory_bytes')})"),
    per("state", "Devices by state", "none", of("fl_devices")),
    per("device", "Online", "bool_yes_no", of("fl_device_online")),
    per("device", "Last sign of life", "s", f"time() - {of('fl_device_seen_timestamp_seconds')}"),
    Panel("What devices are", "none", {"{{device}} {{architecture}} {{release}}": of("fl_device_info")}),
    per("device", "Records of each device", "short", of("fl_device_samples")),
    per("device", "Updates of each device", "short", of("fl_model_updates_total", result="received")),
    per("device", "Missing updates", "short", of("fl_model_updates_total", result="missing")),
    per("device", "Memory of each device", "bytes", of("fl_device_memory_bytes")),
]
DASHBOARDS = {
    "training-overview": ("Training Overview", TRAINING),
    "communication-efficiency": ("Communication Efficiency", COMMUNICATION),
    "security-monitoring": ("Security Monitoring", SECURITY),
    "system-health": ("System Health", SYSTEM),
    "fleet": ("Fleet", FLEET),
}


def made(name: str) -> Dashboard:
    """One dashboard."""
    title, panels = DASHBOARDS[name]
    site = dashboard.QueryVariable("site").label("Site").datasource(SOURCE).query("label_values(fl_run_active, site)")
    built = (
        dashboard.Dashboard(f"edgefl: {title}")
        .uid(f"edgefl-{name}")
        .tags(["edgefl"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("15s")
        .time("now-1h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(site.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED))
    )
    for panel in panels:
        built.with_panel(panel.built())
    return built.build()


def text(name: str) -> str:
    """One dashboard as its file holds it."""
    return f"{JSONEncoder(sort_keys=True, indent=1).encode(made(name))}\n"


if __name__ == "__main__":
    for each in DASHBOARDS:
        (Path(sys.argv[1]) / f"{each}.json").write_text(text(each))
