"""The launcher's own half of a SuperNode: certificate, watchdog, pace, and what it says of refusals."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime

import httpx
import pytest

from edgefl.errors import EdgeflError
from edgefl.federation.flower import supernode
from edgefl.federation.flower.supernode import (
    BUSY_POLL_S,
    DRAINED_FOR_S,
    IDLE_POLL_S,
    REPLY_POLL_S,
    STALE_S,
    Certificate,
    Pause,
    Witness,
    explained,
)
from edgefl.federation.hostconfig import Places
from edgefl.federation.loopback import certify
from edgefl.pki.authority import Authority

HEARTBEAT = "/flwr.proto.Fleet/SendNodeHeartbeat"
NOW = 1_800_000_000.0


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Exchange:
    """What Flower hands to an interceptor."""

    rpc_method: str = "/flwr.proto.Fleet/PullMessages"
    request: httpx.Request = field(default_factory=lambda: httpx.Request("POST", "https://gate/v1/fleet/pull-messages"))


def answer(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers=headers)


def test_only_heartbeats_that_succeed_feed_the_watchdog(places: Places) -> None:
    clock = Clock()
    witness = Witness(Certificate(places), clock)
    clock.now += STALE_S - 1
    witness.intercept(Exchange(HEARTBEAT), lambda _: answer(503))
    witness.intercept(Exchange(), lambda _: answer(200))
    assert witness.is_alive()
    clock.now += 2
    assert not witness.is_alive(), "pulls go on when Flower's heartbeat thread has ended, and the device is offline all the same"
    witness.intercept(Exchange(HEARTBEAT), lambda _: answer(200))
    assert witness.is_alive()


def test_polls_are_short_while_a_run_is_on(places: Places) -> None:
    clock = Clock()
    witness = Witness(Certificate(places), clock)
    assert (witness.pace(3), witness.pace(0.5)) == (IDLE_POLL_S, REPLY_POLL_S)
    witness.intercept(Exchange("/flwr.proto.Fleet/PushMessages"), lambda _: answer(200))
    assert witness.pace(3) == BUSY_POLL_S
    clock.now += supernode.BUSY_FOR_S
    assert witness.pace(3) == IDLE_POLL_S


def test_a_pause_keeps_the_next_message_out_and_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = Clock(), list[str]()
    monkeypatch.setattr(supernode, "notify", lambda **fields: said.append(str(fields["STATUS"])))
    pause = Pause(clock)
    assert pause.may_pull()
    pause.request()
    assert said == [], "until it asks for the next message, one may be under way"
    assert not pause.may_pull()
    assert not pause.may_pull()
    assert said == [supernode.DRAINED]
    clock.now += DRAINED_FOR_S
    assert pause.may_pull()
    assert said[1:] == ["it goes on after a pause"]


def test_a_renewed_certificate_is_loaded_and_old_connections_are_closed(places: Places, authority: Authority) -> None:
    witness = Witness(Certificate(places))
    before = Exchange()
    witness.intercept(before, lambda _: answer(200))
    assert before.request.headers.get("connection") != "close"
    certify(places.identity, "device", "device", "edge-1", authority)
    after = Exchange()
    witness.intercept(after, lambda _: answer(200))
    assert after.request.headers["connection"] == "close"


def test_a_half_written_renewal_is_left_for_the_next_time(places: Places, authority: Authority) -> None:
    certificate = Certificate(places)
    whole = (places.identity / "device.crt").read_bytes()
    (places.identity / "device.crt").write_bytes(whole[: len(whole) // 3])
    assert not certificate.reload()
    certify(places.identity, "device", "device", "edge-1", authority)
    assert certificate.reload()
    assert not certificate.reload()


def test_a_missing_identity_is_said_before_flower_starts(places: Places) -> None:
    (places.identity / "device.key").unlink()
    with pytest.raises(EdgeflError, match=r"identity in .* cannot be used"):
        Certificate(places)


@pytest.mark.parametrize(
    ("status", "ahead_s", "says"),
    [
        (401, 400, r"its clock is \+400 s off; synchronise it"),
        (401, -60, r"its clock is -60 s off"),
        (401, 1, "it is not registered"),
        (403, 0, "the run is over, or this device's certificate does not open this path"),
        (412, 0, "still counts this device as online"),
        (503, 0, "away, or the device is quarantined"),
        (500, 0, "answered 500"),
    ],
)
def test_a_refusal_says_what_it_means_for_this_device(status: int, ahead_s: float, says: str) -> None:
    date = format_datetime(datetime.fromtimestamp(NOW, UTC), usegmt=True)
    assert re.search(says, explained(status, date, NOW + ahead_s))


def test_a_refusal_without_a_date_is_explained_too() -> None:
    assert "not registered" in explained(401, None, NOW)


def test_a_supernode_without_its_secret_ends_with_the_reason(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    places.host.write_text(
        '{"site": "demo", "name": "edge-1", "role": "device", "coordinator": {"name": "c", "address": "10.0.0.1"}}'
    )
    status = supernode.main(["--config", str(places.config), "--state", str(places.state)])
    assert status != 0
    assert "superexec.secret is missing" in capsys.readouterr().err
