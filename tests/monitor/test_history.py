"""The audit log as a user types it, against a real service behind a real gate; and a coordinator that writes its past anew."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from edgefl.cli.main import run as edgefl
from edgefl.errors import ExitCode
from edgefl.events.copy import Copy
from edgefl.events.journal import Journal
from edgefl.events.schema import DeviceJudged, DeviceState, OperatorAction
from edgefl.operations.deeds import note, pending
from edgefl.operations.down import last_word
from edgefl.site import load

pytestmark = pytest.mark.slow


async def command(*words: str) -> int:
    """The command in a thread, since it brings its own event loop."""
    return await asyncio.to_thread(edgefl, list(words))


def last_json(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture
def past(journal: Journal) -> int:
    journal.append(DeviceState(device="edge-01", state="online"))
    journal.append(OperatorAction(who="alice@desk", action="stop", subject="run 7", why="wrong data"))
    judged = DeviceJudged(device="edge-03", before="suspect", conduct="quarantined", reason="3 of 5 rounds flagged")
    return journal.append(judged).seq


async def test_the_log_has_who_did_what_and_why_and_stays_readable_without_the_coordinator(site: Path, past, service, capsys):
    assert await command("audit", "log", "--site", str(site)) == ExitCode.OK
    shown = capsys.readouterr().out
    assert all(said in shown for said in ("alice@desk", "run 7", "wrong data", "policy", "suspect → quarantined"))
    assert "online" not in shown, "what only happened is not what somebody did"
    service.end()
    try:
        assert await command("audit", "log", "--site", str(site), "--json") == ExitCode.MONITOR_UNREACHABLE
        capsys.readouterr()
        assert await command("audit", "log", "--site", str(site), "--json", "--offline") == ExitCode.OK
    finally:
        service.start()
    said = last_json(capsys)
    assert [event["body"]["type"] for event in said["events"]][-2:] == ["operator_action", "device_judged"]
    assert said["seq"] >= past


async def test_verify_reads_both_sides_and_its_anchor_can_be_kept_elsewhere(site: Path, past, capsys):
    assert await command("audit", "log", "--site", str(site), "--verify", "--json") == ExitCode.OK
    said = last_json(capsys)
    noted = f"{said['seq']}:{said['hash']}"
    again = ("audit", "log", "--site", str(site), "--verify", "--offline", "--json", "--seen")
    assert await command(*again, noted) == ExitCode.OK
    assert await command(*again, f"{said['seq']}:{'0' * 64}") == ExitCode.JOURNAL_BROKEN
    assert await command(*again, f"{said['seq'] + 1}:{'0' * 64}") == ExitCode.JOURNAL_BROKEN, "the end is missing"

    record = site / "run.ndjson"
    lines = Copy(site / ".edgefl" / "journal").path.read_text().splitlines()
    for place, line in enumerate(lines):
        if "wrong data" in line:
            lines[place], seq = line.replace("wrong data", "no reason"), place + 1
            break
    record.write_text("".join(line + "\n" for line in lines))
    capsys.readouterr()
    assert await command("audit", "log", "--file", str(record), "--json") == ExitCode.JOURNAL_BROKEN
    assert f"broken at seq {seq}" in last_json(capsys)["what"]
    assert await command("audit", "log", "--file", str(site / "nowhere"), "--json") == ExitCode.USAGE


async def test_what_was_done_without_a_coordinator_is_told_later(site: Path, past, journal, capsys):
    note(site / ".edgefl", "lab kill", "edge-02")
    assert await command("audit", "log", "--site", str(site), "--json") == ExitCode.OK
    told = last_json(capsys)["events"][-1]["body"]
    assert (told["who"], told["action"], told["subject"]) == ("alice@desk", "lab kill", "edge-02") or "@" in told["who"]
    assert told["detail"]["at"]
    assert list(pending(load(site))) == []


async def test_the_last_word_before_a_coordinator_ends_is_in_its_journal_and_in_the_copy(site: Path, past, journal):
    loaded = load(site)
    assert [event async for event in last_word(loaded, "moved")]
    *_, last = Copy(loaded.state / "journal").events()
    assert isinstance(last.body, OperatorAction)
    assert (last.body.action, last.body.why) == ("down", "moved")
    assert journal.head().hash == last.hash


async def test_a_coordinator_that_writes_its_history_anew_is_found_out_by_status_and_log(site: Path, past, service, capsys):
    assert await command("audit", "log", "--site", str(site), "--json") == ExitCode.OK
    kept = service.journal.with_suffix(".before")
    with Journal(service.journal) as journal:
        count = journal.head().seq
    service.end()
    service.journal.rename(kept)
    for rest in service.journal.parent.glob("journal.db-*"):
        rest.unlink()
    with Journal(service.journal) as forged:
        forged.append_all([OperatorAction(who="mallory@desk", action="stop", why="wrong data")] * (count + 3))
    service.start()
    capsys.readouterr()
    try:
        assert await command("status", "--site", str(site), "--json") == ExitCode.JOURNAL_BROKEN
        attention = last_json(capsys)["attention"][0]
        assert attention["subject"] == "journal"
        assert f"broken at seq {count}: it is another event than was shown before" in attention["what"]
        assert await command("audit", "log", "--site", str(site), "--json") == ExitCode.JOURNAL_BROKEN
        assert await command("audit", "log", "--site", str(site), "--offline", "--verify") == ExitCode.OK, "the copy holds"
        service.end()
        service.journal.unlink()
        Journal(service.journal).close()
        service.start()
        capsys.readouterr()
        assert await command("audit", "log", "--site", str(site), "--json") == ExitCode.JOURNAL_BROKEN
        assert "it ends here" in last_json(capsys)["what"]
    finally:
        service.end()
        for rest in service.journal.parent.glob("journal.db*"):
            rest.unlink()
        service.start()
