"""A short run with a slow device and a late one, at times of its own choosing."""

from __future__ import annotations

from edgefl.events import schema as s
from edgefl.events.schema import Body, Event
from edgefl.monitor.round import RoundRow
from edgefl.monitor.state import FederationState
from tests.console.conftest import Recorder

DEVICES = ["edge-01", "edge-02", "edge-03"]
RUN = "7"
SECONDS = {"send": 0.3, "start": 0.5, "train": 6.0, "upload": 2.5, "score": 0.5, "aggregate": 0.25, "evaluate": 2.0}


def started(**more: object) -> s.RunStarted:
    privacy = {"mode": "dp-sgd", "epsilon_limit": 8.0}
    about = {"site": "clinic", "site_hash": "ab", "task": "images", "rule": "guard", "privacy": privacy}
    return s.RunStarted(**about, rounds=2, devices=DEVICES, quorum=2, **more)


def updates() -> list[tuple[float, Body]]:
    """What comes of the devices, with the seconds since what came before it."""
    first = {"samples": 100, "bytes_up": 1000, "bytes_down": 4000, "start_s": 0.2, "train_s": 3.0, "transfer_s": 1.0}
    second = {**first, "samples": 50, "start_s": 0.5, "train_s": 6.0, "transfer_s": 2.5}
    spent = {"limit": 8.0, "delta": 1e-5, "sigma": 1.1, "sampling_rate": 0.1, "run_spent": 0.5}
    score = {"rule": "guard", "threshold": 2.0, "weight": 0.5, "norm": 1.0, "cosine": 0.9}
    return [
        (5.0, s.UpdateReceived(device="edge-01", loss=0.4, accuracy=0.9, **first)),
        (0.0, s.PrivacySpent(device="edge-01", spent=1.5, **spent)),
        (4.0, s.UpdateReceived(device="edge-02", loss=0.5, accuracy=0.8, **second)),
        (11.0, s.DeviceDropped(device="edge-03", reason="no reply within 20 s")),
        (0.5, s.UpdateScored(device="edge-01", score=0.5, verdict="accept", **score)),
        (0.0, s.UpdateScored(device="edge-02", score=9.0, verdict="reject", **{**score, "weight": 0.0})),
        (0.0, s.FlagRaised(device="edge-02", rule="guard", score=9.0, threshold=2.0, peers=[0.5], reason="far off")),
    ]


def finished(accuracy: float = 0.8) -> s.RoundFinished:
    lists = {"participants": DEVICES[:2], "dropped": DEVICES[2:], "rejected": [], "flagged": ["edge-02"]}
    return s.RoundFinished(
        accuracy=accuracy,
        loss=0.4,
        bytes_up=2000,
        bytes_down=8000,
        seconds=SECONDS,
        ratio={"up": 3.5},
        model_sha256="c0de",
        **lists,
    )


def tell(recorder: Recorder, number: int, *, ends: bool = True) -> None:
    """A round: 4 s until its devices are there, 20 s until the last is given up, 3 s for the rest."""
    recorder.say(s.RoundStarted(devices=DEVICES, deadline_s=20), round_=number, after_s=4)
    for after_s, body in updates():
        recorder.say(body, round_=number, after_s=after_s)
    if ends:
        recorder.say(finished(), round_=number, after_s=2.5)


def happened() -> list[Event]:
    """Two rounds, of which the second does not count, and the run's end."""
    recorder = Recorder()
    recorder.say(s.DeviceState(device="edge-01", state="online"))
    recorder.run(RUN)
    recorder.say(started())
    tell(recorder, 1)
    skipped = s.RoundSkipped(reason="1 devices are online, 2 are needed", participants=[])
    recorder.say(skipped, round_=2, after_s=20)
    recorder.say(s.RunFinished(status="failed", reason="too few"), after_s=1)
    return recorder.events


def row_of(events: list[Event], number: int = 1) -> RoundRow:
    return next(row for row in FederationState().apply_all(events).rounds if row.number == number)
