"""In which order a new version comes, and when the federation is worse with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edgefl.monitor.round import RoundRow, UpdateRow
from edgefl.operations.waves import ailments, batch, settled, waves
from edgefl.site.upgrade import Upgrade

DEVICES = ("a", "b", "c", "d")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def sizes(devices: int, canaries: int) -> list[int]:
    found = waves([str(number) for number in range(devices)], canaries)
    assert [name for wave in found for name in wave] == [str(number) for number in range(devices)], "each device once"
    return [len(wave) for wave in found]


@pytest.mark.parametrize(
    ("devices", "canaries", "expected"),
    [
        (1, 1, [1]),
        (4, 1, [1, 1, 2]),
        (10, 1, [1, 4, 5]),
        (100, 1, [1, 9, 40, 50]),
        (100, 30, [30, 20, 50]),
        (5, 9, [5]),
    ],
)
def test_canaries_then_ten_percent_then_half_then_all(devices: int, canaries: int, expected: list[int]) -> None:
    assert sizes(devices, canaries) == expected


@pytest.mark.parametrize(
    ("devices", "quorum", "wave", "is_training", "expected"),
    [(10, 7, 5, True, 3), (10, 7, 2, True, 2), (4, 4, 2, True, 1), (10, 7, 5, False, 5)],
)
def test_no_more_are_away_than_the_quorum_of_a_run_can_spare(
    devices: int, quorum: int, wave: int, is_training: bool, expected: int
) -> None:
    assert batch(devices, quorum, wave, is_training=is_training) == expected


def row(number: int, *, seconds: float = 5, **said: Any) -> RoundRow:
    made: dict[str, Any] = {"state": "finished", "devices": DEVICES, "participants": DEVICES, "loss": 0.5, **said}
    return RoundRow(number=number, started=BEGAN, finished=BEGAN + timedelta(seconds=seconds), **made)


def ill(*now: RoundRow, upgraded: tuple[str, ...] = ("a",), **margins: float) -> list[str]:
    return list(ailments([row(1), row(2)], now, upgraded, Upgrade.model_validate(margins)))


def test_a_federation_within_its_margins_is_well() -> None:
    assert ill(row(3, loss=0.74, seconds=9.9), row(4, loss=0.7)) == []
    assert ill() == []


def test_a_round_that_did_not_count_is_named_with_its_reason() -> None:
    assert ill(row(3, state="skipped", reason="2 of 3 updates came", participants=())) == [
        "round 3 did not count: 2 of 3 updates came"
    ]


def test_loss_and_time_are_held_against_what_they_were() -> None:
    assert ill(row(3, loss=0.8)) == ["a round's loss is 0.8, and 0.5 before allows 0.75 at most"]
    assert ill(row(3, seconds=11)) == ["a round's time is 11 s, and 5 s before allows 10 s at most"]
    assert ill(row(3, loss=0.8), loss_margin=1) == []
    assert ill(row(3, seconds=11), row(4), row(5)) == [], "one slow round is no verdict"


def test_where_nothing_was_known_before_nothing_is_worse() -> None:
    assert list(ailments([], [row(3, loss=99.0, seconds=99)], ("a",), Upgrade())) == []


def test_an_upgraded_device_must_take_part_as_it_did() -> None:
    without = row(3, participants=("b", "c", "d"), updates={"a": UpdateRow(device="a", dropped="no reply in time")})
    assert ill(without) == ["a took no part in round 3: no reply in time"]
    assert ill(row(3, participants=("b", "c", "d"))) == ["a took no part in round 3: its update did not come"]
    assert ill(without, upgraded=("b",)) == [], "one that has the old version is not the new one's fault"
    assert ill(without, row(4)) == [], "the last round that asked it counts"
    assert ill(row(3, devices=("b", "c", "d"), participants=("b", "c", "d"))) == [], "it was not asked"
    assert ill(row(3, participants=("b", "c", "d"), rejected=("a",))) == [], "what the rule thinks of it is another matter"


def test_a_device_that_gave_nothing_before_need_not_now() -> None:
    before = [row(1, participants=("b", "c", "d"))]
    assert list(ailments(before, [row(2, participants=("b", "c", "d"))], ("a",), Upgrade())) == []


def test_rounds_that_ended_after_one() -> None:
    rows = [row(1), row(2, state="skipped"), row(3), row(4, state="running")]
    assert [found.number for found in settled(rows, 1)] == [2, 3]
