"""What the coordinator says of a run's end, and how it knows which node is which device."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from edgefl.events.journal import Journal
from edgefl.events.schema import OperatorAction
from edgefl.federation.flower import patches
from edgefl.federation.rounds import QuorumMissing, RunInvalid
from edgefl.federation.server import device_names, ending, was_stopped


@pytest.mark.parametrize(
    ("cause", "status", "says"),
    [
        (QuorumMissing("2 of 8 devices came", hint="edgefl devices"), "failed", "2 of 8 devices came"),
        (ZeroDivisionError("division by zero"), "failed", "ZeroDivisionError: division by zero"),
        (SystemExit(0), "stopped", "stopped by the operator"),
        (KeyboardInterrupt(), "stopped", "stopped by the operator"),
        (patches.run_is_over()(), "stopped", "stopped by the operator"),
    ],
)
def test_every_end_of_a_run_is_said(cause: BaseException, status: str, says: str) -> None:
    found = ending(cause)
    assert found.status == status
    assert says in found.reason


def test_a_run_that_the_operator_stopped_is_stopped_whatever_call_it_was_in(tmp_path: Path) -> None:
    turned_away = ConnectionError("403")
    with Journal(tmp_path / "journal.db") as journal:
        journal.append(OperatorAction(who="alice", action="stop", subject="run 7", why="wrong data"), run="7")
        assert ending(turned_away, partial(was_stopped, journal, "7")).status == "stopped"
        assert ending(turned_away, partial(was_stopped, journal, "8")).status == "failed"


def test_node_ids_become_names(tmp_path: Path) -> None:
    (tmp_path / "nodes.json").write_text('{"17216423423423423423": "edge-1"}')
    assert device_names(tmp_path / "nodes.json") == {17216423423423423423: "edge-1"}


@pytest.mark.parametrize("text", [None, "{", "[1]", '{"a": "edge-1"}'])
def test_an_unreadable_list_of_names_fails_the_run_with_the_reason(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "nodes.json").write_text(text)
    with pytest.raises(RunInvalid, match="which node is which device"):
        device_names(tmp_path / "nodes.json")
