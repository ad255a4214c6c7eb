"""What a run says of its messages' sizes, against the messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefl.events.schema import RoundFinished
from tests.federation.small import DEVICES, Small

VALUES = 22


@pytest.mark.parametrize("down", ["none", "quantised"])
def test_the_ratios_are_of_the_bytes_that_were_carried_in_each_direction(tmp_path: Path, down: str) -> None:
    small = Small(
        tmp_path,
        {
            "run": {"rounds": 3, "quorum": 1.0},
            "privacy": {"mode": "none"},
            "compression": {"mode": "top-k", "keep": 0.3, "down": down},
        },
    )
    exchange = small.run(1)
    told = {event.round: event.body for event in small.events() if isinstance(event.body, RoundFinished)}
    assert sorted(told) == [1, 2, 3]
    for round_, body in told.items():
        carried = [message for message in exchange.carried if message[1] == round_]
        up = sum(bytes_up for kind, _, _, bytes_up in carried if kind == "train")
        downward = sum(bytes_down for _, _, bytes_down, _ in carried)
        assert body.ratio["up"] == pytest.approx(4 * VALUES * len(DEVICES) / up, abs=6e-4)
        assert body.ratio["down"] == pytest.approx(4 * VALUES * 2 * len(DEVICES) / downward, abs=6e-4)
        assert (body.bytes_up, body.bytes_down) == (up, downward), "the journal's totals are the same bytes"
    assert told[3].ratio["down"] != told[3].ratio["up"]
