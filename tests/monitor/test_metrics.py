from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgefl.events import schema as s
from edgefl.events.schema import Event
from edgefl.monitor.device import Shown
from edgefl.monitor.families.training import convergence
from edgefl.monitor.metrics import exposition
from edgefl.monitor.round import STAGES
from edgefl.monitor.state import FederationState
from edgefl.monitor.status import Status
from edgefl.pki.profiles import profiles
from edgefl.site.robustness import RULES

_ROW = re.compile(r"^\| `(fl_\w+)` \| (\w+) \| ([^|]+) \|", re.MULTILINE)
RUN = {"site": "c", "site_hash": "", "task": "t", "rounds": 5, "devices": ["edge-01"], "quorum": 1, "rule": "guard"}
RATIO = {"up": 4.0, "down": 1.0, "sideways": 2.0}
FIGURES = {
    "auc@4": 0.52,
    "auc@inf": 0.9,
    "epsilon_low@4": 0.1,
    **dict.fromkeys(("auc@nonsense", "auc@-1", "auc@nan", "auc@04"), 0.5),
}
NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)


@pytest.fixture
def scraped():
    received = {"samples": 10, "bytes_up": 100, "bytes_down": 400, "train_s": 2, "transfer_s": 0.1, "accuracy": 0.8, "loss": 0.4}
    issued = {"subject": "edge-01", "role": "device", "serial": "a1", "not_before": NOW, "not_after": NOW + timedelta(hours=24)}
    proven = {"device": "edge-01", "probes": 9, "open_forbidden": [], "closed_required": [], "proof_sha256": ""}
    judged = {"score": 1.5, "threshold": 2.0, "verdict": "accept", "weight": 1, "norm": 1, "cosine": 1}
    round_ = {
        "participants": ["edge-01"],
        "dropped": [],
        "rejected": ["edge-02"],
        "flagged": ["edge-02"],
        "bytes_up": 100,
        "bytes_down": 400,
    }
    bodies = [
        (0, s.DeviceFacts(device="edge-01", architecture="aarch64", cores=4, memory_mb=1024, address="", release="abc")),
        (0, s.DeviceState(device="edge-03", state="removed")),
        (0, s.AuditFinished(audit="membership", passed=True, says="", figures=FIGURES, at=NOW)),
        (0, s.RunStarted(**RUN, privacy={"mode": "client"})),
        (0, s.CertificateIssued(**issued)),
        (0, s.IsolationProven(**proven)),
        (0, s.IsolationProven(**{**proven, "device": "hub", "role": "coordinator", "open_forbidden": ["hub → edge-01:22"]})),
        (1, s.RoundStarted(devices=["edge-01"], deadline_s=9)),
        (1, s.UpdateReceived(device="edge-01", **received)),
        (1, s.UpdateRejected(device="edge-02", reason="not_finite", detail="")),
        (1, s.FlagRaised(device="edge-02", rule="guard", score=3, threshold=2, peers=[], reason="")),
        (
            1,
            s.PrivacySpent(
                device="edge-01", spent=1.5, limit=8, delta=1e-5, sigma=1, sampling_rate=0.1, run_spent=1, rounds_left=3
            ),
        ),
        (1, s.ModelPrivacySpent(spent=2.5, limit=6, delta=1e-5, sigma=3, run_spent=1, rounds_left=7, clip=1, next_clip=1)),
        (1, s.UpdateScored(device="edge-01", rule="guard", **judged)),
        (1, s.FlagRaised(device="edge-02", rule="made-up-9", score=3, threshold=2, peers=[], reason="")),
        (1, s.RoundFinished(accuracy=0.8, loss=1.2, seconds={"train": 1.0}, **round_)),
        (2, s.RoundStarted(devices=["edge-01"], deadline_s=9)),
        (2, s.UpdateReceived(device="edge-01", start_s=0.4, **received)),
        (2, s.UpdateScored(device="edge-01", rule="guard", **judged)),
        (2, s.RoundFinished(accuracy=0.7, loss=0.9, seconds={"train": 1.0, "made-up": 9.0}, ratio=RATIO, **round_)),
    ]
    state = FederationState.enrolled("c", ["edge-01", "edge-02", "edge-03"], epsilon_limit=8.0)
    for seq, (round_, body) in enumerate(bodies, 1):
        event = {
            "seq": seq,
            "at": NOW - timedelta(minutes=1),
            "run": "1",
            "round": round_,
            "body": body,
            "previous": "",
            "hash": "",
        }
        state = state.apply(Event.model_validate(event))
    return exposition(lambda: Status(state=state, now=NOW, quorum=1)).decode()


@pytest.mark.parametrize(
    "line",
    [
        'fl_model_updates_total{device="edge-01",result="received"} 2.0',
        'fl_model_updates_total{device="edge-02",result="rejected"} 1.0',
        "fl_training_accuracy 0.7",
        "fl_privacy_models_epsilon_spent 2.5",
        "fl_privacy_models_epsilon_limit 6.0",
        "fl_privacy_models_rounds_left 7.0",
        "fl_training_loss 0.9",
        "fl_run_active 1.0",
        'fl_rounds_total{result="finished"} 2.0',
        'fl_round_stage_seconds_total{stage="train"} 2.0',
        'fl_last_round_stage_seconds{stage="train"} 1.0',
        'fl_privacy_epsilon_spent{device="edge-01"} 1.5',
        'fl_privacy_epsilon_limit{device="edge-02"} 8.0',
        'fl_flags_total{rule="guard"} 1.0',
        'fl_device_flags_total{device="edge-02"} 2.0',
        'fl_update_bytes_total{device="edge-01",direction="down"} 800.0',
        f'fl_certificate_expiry_timestamp_seconds{{role="device",subject="edge-01"}} {(NOW + timedelta(hours=24)).timestamp()}',
        'fl_isolation_proof_age_seconds{device="edge-01"} 60.0',
        'fl_isolation_proven{device="edge-01"} 1.0',
        'fl_isolation_proven{device="hub"} 0.0',
        'fl_devices{state="suspect"} 1.0',
        "fl_journal_verified 1.0",
        "fl_training_best_accuracy 0.8",
        "fl_training_convergence_ratio 0.25",
        "fl_training_accuracy_deviation 0.05",
        'fl_compression_ratio{direction="up"} 4.0',
        'fl_last_round_bytes{direction="down"} 400.0',
        'fl_device_round_trip_seconds{device="edge-01"} 2.5',
        'fl_device_anomaly_score{device="edge-01"} 1.5',
        'fl_device_anomaly_threshold{device="edge-01"} 2.0',
        'fl_flags_total{rule="other"} 1.0',
        'fl_isolation_wrong_paths{device="hub"} 1.0',
        'fl_audit_membership_auc{epsilon="4"} 0.52',
        'fl_audit_passed{audit="membership"} 1.0',
        'fl_device_memory_bytes{device="edge-01"} 1073741824.0',
        'fl_device_info{architecture="aarch64",device="edge-01",release="abc"} 1.0',
        'fl_certificate_life_seconds{role="device",subject="edge-01"} 86400.0',
        "fl_quorum_devices 1.0",
    ],
)
def test_the_state_is_exported(scraped, line):
    name, value = line.rsplit(" ", 1)
    found = {sample.rsplit(" ", 1)[0]: float(sample.rsplit(" ", 1)[1]) for sample in scraped.splitlines() if sample[:1] != "#"}
    labels = {_sorted(key): number for key, number in found.items()}
    assert labels[_sorted(name)] == pytest.approx(float(value))


@pytest.mark.parametrize(("mode", "number"), [("client", 3), ("dp-sgd", 0), (None, 0)])
def test_the_models_budget_is_told_where_it_is_what_the_last_run_hangs_on(mode, number):
    spent = s.ModelPrivacySpent(spent=2.5, limit=6, delta=1e-5, sigma=3, run_spent=1, rounds_left=0, clip=1, next_clip=1)
    bodies = [spent, *([s.RunStarted(**RUN, privacy={"mode": mode})] if mode else [])]
    state = FederationState().apply_all(
        Event(seq=seq, at=NOW, run="1", round=0, body=body, previous="", hash="") for seq, body in enumerate(bodies, 1)
    )
    told = exposition(lambda: Status(state=state, now=NOW, quorum=1)).decode()
    assert len(re.findall("^fl_privacy_models_", told, re.MULTILINE)) == number


def test_a_device_that_was_removed_is_not_missed(scraped):
    assert 'fl_device_online{device="edge-02"} 0.0' in scraped
    assert 'fl_device_online{device="edge-03"}' not in scraped


@pytest.mark.parametrize(
    ("losses", "share"), [([8, 4, 2, 1], 0.5), ([1, 2], -1.0), ([3, 3], 0.0), ([1], None), ([], None), ([1, 0], None)]
)
def test_convergence_is_the_share_by_which_the_loss_falls_a_round(losses, share):
    assert convergence(losses) == (share if share is None else pytest.approx(share))


def test_promtool_finds_nothing_to_complain_of(scraped, promtool):
    done = subprocess.run([promtool, "check", "metrics"], input=scraped, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_metric_stands_in_the_documentation_with_its_type_and_labels(scraped):
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    told = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in _ROW.findall(page)}
    exposed = dict(re.findall(r"^# TYPE (\S+) (\w+)$", scraped, re.MULTILINE))
    assert {name: kind for name, (kind, _) in told.items()} == exposed
    samples = [sample for family in text_string_to_metric_families(scraped) for sample in family.samples]
    assert {sample.name for sample in samples} == set(told)
    for sample in samples:
        assert set(sample.labels) == told[sample.name][1], sample.name


def test_labels_are_the_sites_names_and_closed_lists(scraped):
    known = {"architecture", "audit", "device", "direction", "epsilon", "release", "result", "role", "rule", "stage", "state"}
    families = list(text_string_to_metric_families(scraped))
    assert len(families) > 50
    for family in families:
        assert family.name.startswith("fl_")
        assert family.documentation.endswith("."), family.name
        assert {label for sample in family.samples for label in sample.labels} <= {*known, "subject"}, family.name


def test_no_label_takes_a_value_that_somebody_else_thought_of(scraped):
    closed = {
        "audit": {"membership", "inversion", "baseline"},
        "direction": {"up", "down"},
        "epsilon": {"4", "inf"},
        "result": {"received", "rejected", "missing", "finished", "skipped"},
        "role": set(profiles().roles),
        "rule": {*RULES, "ledger", "other"},
        "stage": set(STAGES),
        "state": set(get_args(Shown)),
        "device": {"edge-01", "edge-02", "edge-03", "hub"},
        "subject": {"edge-01"},
        "architecture": {"aarch64"},
        "release": {"abc"},
    }
    seen: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(scraped):
        for sample in family.samples:
            for label, value in sample.labels.items():
                seen.setdefault(label, set()).add(value)
    assert set(seen) == set(closed)
    assert {label: values - closed[label] for label, values in seen.items() if values - closed[label]} == {}
    assert (seen["epsilon"], "other" in seen["rule"]) == ({"4", "inf"}, True)


def _sorted(name: str) -> str:
    head, _, labels = name.partition("{")
    return head + "".join(sorted(labels.rstrip("}").split(",")))
