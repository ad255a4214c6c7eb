"""A recorded run that the console is tested on: real events in a real hash chain, the same bytes every time."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgefl.events import chain
from edgefl.events.replay import Header
from edgefl.events.schema import (
    Body,
    CertificateIssued,
    DeviceDropped,
    DeviceFacts,
    DeviceState,
    Event,
    FlagRaised,
    IsolationProven,
    PrivacySpent,
    RoundFinished,
    RoundStarted,
    RunFinished,
    RunStarted,
    UpdateReceived,
    UpdateRejected,
    UpdateScored,
)
from edgefl.monitor.state import FederationState

from .driving import steady as steady  # noqa: PLC0414  # every console here is driven so

BEGAN = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DEVICES = tuple(f"edge-{number:02d}" for number in range(1, 11))
ARCHITECTURES = ("x86_64", "aarch64", "x86_64", "armv7l")
ATTACKER, SLEEPER, BROKEN = "edge-07", "edge-09", "edge-05"
ROUNDS = 30


class Recorder:
    """Appends bodies to a chain at times of its own choosing."""

    def __init__(self, began: datetime = BEGAN) -> None:
        self.events: list[Event] = []
        self.now = began
        self._run = ""

    def run(self, name: str) -> None:
        self._run = name

    def say(self, body: Body, *, round_: int = 0, after_s: float = 0.05) -> None:
        self.now += timedelta(seconds=after_s)
        previous = self.events[-1].hash if self.events else chain.GENESIS
        record = {
            "seq": len(self.events) + 1,
            "at": self.now.isoformat().replace("+00:00", "Z"),
            "run": self._run if round_ or isinstance(body, RunStarted | RunFinished) else "",
            "round": round_,
            "version": body.version,
            "body": json.loads(body.model_dump_json()),
            "previous": previous,
        }
        self.events.append(Event.model_validate({**record, "hash": chain.digest_of(record)}))


def story(rounds: int = ROUNDS, of: int = 50) -> Iterator[Event]:
    """Ten devices train: edge-07 turns signs from round 3 on, edge-09 goes away after 9, edge-05 once sends nonsense."""
    chance = random.Random(7)
    recorder = Recorder()
    for number, device in enumerate(DEVICES):
        facts = DeviceFacts(
            device=device,
            architecture=ARCHITECTURES[number % 4],
            cores=(4, 2, 1, 0.5)[number % 4],
            memory_mb=(4096, 2048, 1024, 1024)[number % 4],
            address=f"10.77.0.{11 + number}",
            release="Debian 12",
        )
        recorder.say(facts)
        certificate = CertificateIssued(
            subject=device,
            role="device",
            serial=f"{0x5EED0000 + number:x}",
            not_before=BEGAN - timedelta(hours=4),
            not_after=BEGAN + timedelta(hours=20),
        )
        recorder.say(certificate)
        recorder.say(
            IsolationProven(
                device=device,
                probes=14,
                open_forbidden=[],
                closed_required=[],
                proof_sha256=f"{number:064x}",
                paths={"service": (0, 1, 2), "peers": (0, 0, 6), "internet": (0, 0, 3), "inbound": (0, 1, 1)},
            )
        )
        recorder.say(DeviceState(device=device, state="online"))
    recorder.run("4")
    recorder.say(
        RunStarted(
            site="hospital-net", site_hash="ab12", task="cardio", rounds=of, devices=list(DEVICES), quorum=7, rule="guard"
        ),
        after_s=2,
    )
    for number in range(1, rounds + 1):
        tell_round(recorder, number, chance)
    yield from recorder.events


def tell_round(recorder: Recorder, number: int, chance: random.Random) -> None:
    """One round of ten devices."""
    progress = 1 - math.exp(-number / 8)
    accuracy = 0.52 + 0.40 * progress + chance.uniform(-0.006, 0.006)
    loss = 0.26 + 1.1 * math.exp(-number / 7) + chance.uniform(-0.01, 0.01)
    here = [device for device in DEVICES if not (device == SLEEPER and number > 9)]
    if number == 10:
        recorder.say(DeviceState(device=SLEEPER, state="offline", detail="no heartbeat for 30 s"))
    recorder.say(RoundStarted(devices=here, deadline_s=120), round_=number, after_s=0.4)
    participants, rejected, flagged, dropped = [], [], [], []
    for place, device in enumerate(here):
        spread = chance.gauss(0, 0.03)
        train_s = (2.1, 4.4, 3.0, 6.8)[place % 4] * chance.uniform(0.9, 1.1)
        if device == "edge-02" and number % 11 == 0:
            dropped.append(device)
            recorder.say(DeviceDropped(device=device, reason="no reply within 120 s"), round_=number, after_s=0.3)
            continue
        update = UpdateReceived(
            device=device,
            samples=(1204, 310, 862, 96, 1180)[place % 5],
            bytes_up=1_100_000 + 7_000 * place,
            bytes_down=4_000_000,
            train_s=train_s,
            transfer_s=0.4 + 0.1 * place,
            start_s=0.2,
            loss=max(0.1, loss - 4 * spread),
            accuracy=min(0.99, accuracy + spread),
            cpu_s=train_s * (0.71, 0.95, 0.64, 0.42)[place % 4],
        )
        recorder.say(update, round_=number, after_s=chance.uniform(0.1, 0.9))
        if device == BROKEN and number == 6:
            rejected.append(device)
            detail = "3 of 61 706 values are not finite"
            recorder.say(UpdateRejected(device=device, reason="not_finite", detail=detail), round_=number)
            continue
        participants.append(device)
        recorder.say(privacy(device, place, number), round_=number, after_s=0.01)
    for place, device in enumerate(participants):
        attacks = device == ATTACKER and number >= 3
        score = 5.2 + chance.uniform(-0.8, 0.8) if attacks else abs(chance.gauss(0.7, 0.3))
        scored = UpdateScored(
            device=device,
            rule="guard",
            score=score,
            threshold=2.5,
            verdict="reject" if attacks else "accept",
            weight=0.0 if attacks else 1 / len(participants),
            norm=chance.uniform(0.9, 1.2),
            cosine=-0.81 if attacks else chance.uniform(0.55, 0.9),
            reason="points away from its peers" if attacks else "",
            reputation=max(0.05, 0.98 * 0.85 ** max(0, number - 2)) if attacks else 0.99 - 0.004 * place,
        )
        recorder.say(scored, round_=number, after_s=0.01)
        if attacks and number in {3, 4, 8, 15, 27}:
            flagged.append(device)
            peers = [abs(chance.gauss(0.7, 0.3)) for _ in range(8)]
            reason = "points away from its peers"
            flag = FlagRaised(device=device, rule="guard", score=score, threshold=2.5, peers=peers, reason=reason)
            recorder.say(flag, round_=number, after_s=0.01)
    seconds = {"send": 0.3, "start": 0.2, "train": 6.9, "upload": 0.9, "score": 0.06, "aggregate": 0.03, "evaluate": 0.8}
    finished = RoundFinished(
        accuracy=accuracy,
        loss=loss,
        participants=participants,
        dropped=dropped,
        rejected=rejected,
        flagged=flagged,
        bytes_up=1_130_000 * len(participants),
        bytes_down=4_000_000 * len(here),
        ratio={"up": 3.63, "down": 1.0},
        seconds={stage: value * chance.uniform(0.9, 1.1) for stage, value in seconds.items()},
        model=f"4/{number}.safetensors",
        model_sha256=f"{number:064x}",
    )
    recorder.say(finished, round_=number, after_s=4)


def privacy(device: str, place: int, number: int) -> PrivacySpent:
    """What a ledger says after a round; edge-03 came with most of its budget spent."""
    before = 6.1 if device == "edge-03" else 0.6 + 0.04 * place
    spent = before + 0.075 * number**0.9
    return PrivacySpent(
        device=device,
        spent=spent,
        limit=8.0,
        delta=1e-5,
        sigma=1.12,
        sampling_rate=0.11,
        run_spent=spent - before,
        rounds_left=int((8.0 - spent) / 0.07),
    )


def write_recording(events: list[Event], path: Path) -> Path:
    """The events as a file that `edgefl console --replay` takes."""
    header = Header(run="", first=events[0].seq, last=events[-1].seq, previous=events[0].previous, head=events[-1].hash)
    path.write_text("\n".join([header.model_dump_json(), *(event.model_dump_json() for event in events)]) + "\n")
    return path


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are shown in the operator's zone: here, the same everywhere."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="session")
def events() -> list[Event]:
    return list(story())


@pytest.fixture(scope="session")
def state(events: list[Event]) -> FederationState:
    return FederationState().apply_all(events)


@pytest.fixture(scope="session")
def recording(events: list[Event], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(events, tmp_path_factory.mktemp("recording") / "run-4.ndjson")
