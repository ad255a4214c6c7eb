"""What is kept of the past, and what never goes."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from edgefl.events.journal import Journal
from edgefl.events.schema import OperatorAction, RoundFinished, StartChosen
from edgefl.federation.checkpoint import Version
from edgefl.federation.retention import MOST, Pinned, best, surplus


def version(place: int, accuracy: float | None = None, *, loss: float | None = None, task: str = "t") -> Version:
    result = RoundFinished(
        accuracy=accuracy,
        loss=loss,
        participants=[],
        dropped=[],
        rejected=[],
        flagged=[],
        bytes_up=0,
        bytes_down=0,
        seconds={},
    )
    return Version(
        run="1",
        round=place,
        training="1",
        sha256="",
        bytes=10,
        site="",
        site_hash="",
        task=task,
        rule="",
        journal_seq=place,
        journal_hash="",
        said=[result],
    )


def names(versions: list[Version]) -> set[str]:
    return {one.name for one in versions}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 400), st.sets(st.integers(1, 30), max_size=4))
def test_the_newest_the_best_and_the_pinned_stay_and_the_rest_fits(accuracies: list[float], room: int, pins: set[int]) -> None:
    versions = [version(place, accuracy) for place, accuracy in enumerate(accuracies, start=1)]
    pinned = {f"1/{place}" for place in pins}
    removed = surplus(versions, {one.name: 10 for one in versions}, room, pinned)
    left = [one for one in versions if one not in removed]
    kept = {versions[-1].name, best(versions)["t"].name, *(pinned & names(versions))}
    assert kept <= names(left)
    assert max(accuracies) in {one.metrics["accuracy"] for one in left}
    assert 10 * len(left) <= room or names(left) == kept
    if removed:
        oldest_left = min((one.round for one in left if one.name not in kept), default=10**9)
        assert all(one.round < oldest_left for one in removed), "older ones go first"


def test_small_models_are_counted_too() -> None:
    versions = [version(place, 0.5) for place in range(MOST + 7)]
    assert len(surplus(versions, {one.name: 1 for one in versions}, 10**9, ())) == 7


def test_the_best_is_a_tasks_own_and_loss_stands_in_for_accuracy() -> None:
    found = best([version(1, 0.9), version(2, 0.8), version(3, loss=0.3, task="u"), version(4, loss=0.7, task="u"), version(5)])
    assert {task: one.round for task, one in found.items()} == {"t": 1, "u": 3}


def test_what_an_operator_exported_or_chose_is_in_the_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        pinned = Pinned(journal)
        journal.append(OperatorAction(who="alice", action="export", subject="1/2"))
        journal.append(OperatorAction(who="alice", action="stop", subject="1/3"))
        assert pinned.names() == {"1/2"}
        journal.append(StartChosen(who="alice", model="1/4"))
        journal.append(OperatorAction(who="alice", action="export", subject="1/9"), run="5")
        assert pinned.names() == {"1/2", "1/4"}, "an export belongs to no run"
