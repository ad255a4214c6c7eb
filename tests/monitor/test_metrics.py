from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgefl.events import schema as s
from edgefl.events.schema import Event
from edgefl.monitor.metrics import exposition
from edgefl.monitor.state import FederationState
from edgefl.monitor.status import Status

_ROW = re.compile(r"^\| `(fl_\w+)` \| (\w+) \| ([^|]+) \|", re.MULTILINE)
NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)


@pytest.fixture
def scraped():
    received = {"samples": 10, "bytes_up": 100, "bytes_down": 400, "train_s": 2, "transfer_s": 0.1, "accuracy": 0.8, "loss": 0.4}
    issued = {"subject": "edge-01", "role": "device", "serial": "a1", "not_before": NOW, "not_after": NOW + timedelta(hours=24)}
    proven = {"device": "edge-01", "probes": 9, "open_forbidden": [], "closed_required": [], "proof_sha256": ""}
    bodies = [
        (0, s.RunStarted(site="c", site_hash="", task="t", rounds=5, devices=["edge-01"], quorum=1, rule="guard")),
        (0, s.CertificateIssued(**issued)),
        (0, s.IsolationProven(**proven)),
        (0, s.IsolationProven(**{**proven, "device": "hub", "role": "coordinator", "open_forbidden": ["hub → edge-01:22"]})),
        (1, s.RoundStarted(devices=["edge-01"], deadline_s=9)),
        (1, s.UpdateReceived(device="edge-01", **received)),
        (1, s.UpdateRejected(device="edge-02", reason="not_finite", detail="")),
        (1, s.FlagRaised(device="edge-02", rule="guard", score=3, threshold=2, peers=[], reason="")),
        (1, s.PrivacySpent(device="edge-01", spent=1.5, limit=8, delta=1e-5, sigma=1, sampling_rate=0.1, run_spent=1)),
        (1, s.ModelPrivacySpent(spent=2.5, limit=6, delta=1e-5, sigma=3, run_spent=1, clip=1, next_clip=1)),
        (
            1,
            s.RoundFinished(
                accuracy=0.7, loss=0.9, participants=["edge-01"], dropped=[], rejected=["edge-02"], flagged=["edge-02"],
                bytes_up=100, bytes_down=400, seconds={"train": 2.0},
            ),
        ),
    ]  # fmt: skip
    state = FederationState.enrolled("c", ["edge-01", "edge-02"], epsilon_limit=8.0)
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
        'fl_model_updates_total{device="edge-01",result="received"} 1.0',
        'fl_model_updates_total{device="edge-02",result="rejected"} 1.0',
        "fl_training_accuracy 0.7",
        "fl_privacy_models_epsilon_spent 2.5",
        "fl_privacy_models_epsilon_limit 6.0",
        "fl_training_loss 0.9",
        "fl_run_active 1.0",
        'fl_rounds_total{result="finished"} 1.0',
        'fl_round_stage_seconds_total{stage="train"} 2.0',
        'fl_last_round_stage_seconds{stage="train"} 2.0',
        'fl_privacy_epsilon_spent{device="edge-01"} 1.5',
        'fl_privacy_epsilon_limit{device="edge-02"} 8.0',
        'fl_flags_total{rule="guard"} 1.0',
        'fl_device_flags_total{device="edge-02"} 1.0',
        'fl_update_bytes_total{device="edge-01",direction="down"} 400.0',
        f'fl_certificate_expiry_timestamp_seconds{{role="device",subject="edge-01"}} {(NOW + timedelta(hours=24)).timestamp()}',
        'fl_isolation_proof_age_seconds{device="edge-01"} 60.0',
        'fl_isolation_proven{device="edge-01"} 1.0',
        'fl_isolation_proven{device="hub"} 0.0',
        'fl_devices{state="suspect"} 1.0',
        "fl_journal_verified 1.0",
    ],
)
def test_the_state_is_exported(scraped, line):
    name, value = line.rsplit(" ", 1)
    found = {sample.rsplit(" ", 1)[0]: float(sample.rsplit(" ", 1)[1]) for sample in scraped.splitlines() if sample[:1] != "#"}
    labels = {_sorted(key): number for key, number in found.items()}
    assert labels[_sorted(name)] == float(value)


def test_every_metric_stands_in_the_documentation_with_its_type_and_labels(scraped):
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    told = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in _ROW.findall(page)}
    exposed = dict(re.findall(r"^# TYPE (\S+) (\w+)$", scraped, re.MULTILINE))
    assert {name: kind for name, (kind, _) in told.items()} == exposed
    samples = [sample for family in text_string_to_metric_families(scraped) for sample in family.samples]
    assert {sample.name for sample in samples} == set(told)
    for sample in samples:
        assert set(sample.labels) == told[sample.name][1], sample.name


def test_names_follow_the_conventions_that_promtool_checks(scraped):
    families = list(text_string_to_metric_families(scraped))
    assert len(families) > 20
    for family in families:
        assert re.fullmatch(r"fl_[a-z][a-z0-9_]*", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert not re.search(r"_(count|sum|bucket|total|gauge|counter)$", family.name), family.name
        assert not re.search(r"_(ms|mb|kb|minutes|hours|percent)(_|$)", family.name), family.name
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            assert set(sample.labels) <= {"device", "direction", "result", "role", "rule", "stage", "state", "subject"}


def _sorted(name: str) -> str:
    head, _, labels = name.partition("{")
    return head + "".join(sorted(labels.rstrip("}").split(",")))
