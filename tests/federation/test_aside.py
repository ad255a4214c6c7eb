"""Whom the operator keeps out: what the journal says at the moment."""

from __future__ import annotations

from pathlib import Path

from edgefl.events.journal import Journal
from edgefl.events.schema import DeviceState
from edgefl.federation.aside import Aside


def test_the_last_word_counts_and_presence_is_none(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:

        def says(device: str, state: str) -> None:
            journal.append(DeviceState(device=device, state=state))

        says("edge-01", "quarantined")
        says("edge-02", "quarantined")
        says("edge-02", "enrolled")
        says("edge-03", "offline")
        aside = Aside(journal)
        assert aside.devices == {"edge-01"}
        assert aside.returned() == [], "what was before a run, its memory has heard of"
        says("edge-01", "online")
        assert aside.devices == {"edge-01"}
        says("edge-03", "removed")
        says("edge-01", "enrolled")
        assert aside.without(["edge-01", "edge-02", "edge-03"]) == ["edge-01", "edge-02"]
        assert aside.returned() == ["edge-01"]
        assert aside.returned() == []


def test_a_drained_device_is_asked_no_more_until_it_is_undrained_and_nothing_is_forgotten_for_that(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        aside = Aside(journal)
        journal.append(DeviceState(device="edge-01", state="drained"))
        assert aside.without(["edge-01", "edge-02"]) == ["edge-02"]
        assert aside.devices == frozenset(), "what is expected of it is still waited for"
        assert Aside(journal).without(["edge-01"]) == [], "a run that begins later leaves it alone too"
        journal.append(DeviceState(device="edge-01", state="undrained"))
        assert aside.without(["edge-01", "edge-02"]) == ["edge-01", "edge-02"]
        assert aside.returned() == [], "the policy's memory of it stays"
