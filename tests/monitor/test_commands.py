"""status, devices, rounds and logs as a user types them, against a real service behind a real gate."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from edgefl.cli.main import run as edgefl
from edgefl.errors import ExitCode
from edgefl.events import replay
from edgefl.events import schema as s
from edgefl.operations.deeds import tell
from edgefl.progress import Finished
from edgefl.site import load

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC)
STAGES = {"send": 0.5, "start": 0.3, "train": 5.0, "upload": 2.0, "score": 0.2, "aggregate": 0.4, "evaluate": 1.6}


@pytest.fixture
def told(journal):
    """A run of two rounds in which edge-03 misbehaves."""
    devices = ["edge-01", "edge-02", "edge-03"]
    number = str(journal.head().seq + 1)
    life = {"not_before": NOW - timedelta(hours=1), "not_after": NOW + timedelta(hours=23)}
    for device in devices:
        journal.append(s.DeviceState(device=device, state="online"))
        journal.append(s.CertificateIssued(subject=device, role="device", serial=f"a{device}", **life))
    said = {"site": "clinic", "site_hash": "", "task": "images", "rule": "guard"}
    journal.append(s.RunStarted(**said, rounds=2, devices=devices, quorum=2), run=number)
    for round_ in (1, 2):
        journal.append(s.RoundStarted(devices=devices, deadline_s=60), run=number, round=round_)
        for device in devices:
            received = {"samples": 100, "bytes_up": 1000, "bytes_down": 4000, "train_s": 2, "transfer_s": 0.5, "cpu_s": 1}
            journal.append(s.UpdateReceived(device=device, loss=0.3, accuracy=0.9, **received), run=number, round=round_)
        flag = s.FlagRaised(device="edge-03", rule="guard", score=9, threshold=2, peers=[0.5, 1], reason="points [away]")
        journal.append(flag, run=number, round=round_)
        result = {"participants": devices[:2], "dropped": [], "rejected": [], "flagged": ["edge-03"]}
        finished = s.RoundFinished(
            accuracy=0.5 + 0.1 * round_, loss=0.4, bytes_up=2000, bytes_down=8000, seconds=STAGES, **result
        )
        journal.append(finished, run=number, round=round_)
    journal.append(s.RunFinished(status="completed", accuracy=0.7), run=number)
    return number


async def command(*words: str) -> int:
    """The command in a thread, since it brings its own event loop."""
    return await asyncio.to_thread(edgefl, list(words))


def last_json(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


async def test_status_names_what_needs_attention_and_says_so_with_its_exit_code(site, told, capsys):
    assert await command("status", "--site", str(site), "--json") == ExitCode.DEGRADED
    said = last_json(capsys)
    assert (said["run"], said["run_status"], said["round"], said["online"]) == (told, "completed", 2, 3)
    assert said["accuracy"] == pytest.approx(0.7)
    assert said["flagged"] == ["edge-03"]
    subjects = {concern["subject"]: concern for concern in said["attention"]}
    assert set(subjects) == {"edge-03", "superlink"}
    assert subjects["edge-03"]["hint"] == "edgefl devices edge-03"


async def test_status_reads_well_on_a_terminal(site, told, capsys):
    await command("status", "--site", str(site))
    text = capsys.readouterr().out
    assert f"clinic · run {told} completed, round 2/2" in text
    assert "3/3 devices online (quorum 2)" in text
    assert "points [away]" in text


async def test_devices_shows_the_fleet_and_one_device_with_its_evidence(site, told, capsys):
    assert await command("devices", "--site", str(site), "--json") == ExitCode.OK
    assert [row["name"] for row in last_json(capsys)["devices"]] == ["edge-01", "edge-02", "edge-03"]
    assert await command("devices", "edge-03", "--site", str(site), "--json") == ExitCode.OK
    assert last_json(capsys)["flags"][-1]["peers"] == [0.5, 1.0]
    assert await command("devices", "edge-03", "--site", str(site)) == ExitCode.OK
    assert "points [away]" in capsys.readouterr().out
    assert await command("devices", "edge-99", "--site", str(site)) == ExitCode.USAGE
    assert "edge-01, edge-02, edge-03" in capsys.readouterr().err


async def test_rounds_shows_where_the_time_went(site, told, capsys):
    assert await command("rounds", "--site", str(site), "--json") == ExitCode.OK
    said = last_json(capsys)
    assert [(row["number"], row["seconds"]) for row in said["rounds"]] == [(1, STAGES), (2, STAGES)]
    assert await command("rounds", "--site", str(site)) == ExitCode.OK
    printed = capsys.readouterr().out
    header, first = next(pair for pair in pairwise(printed.splitlines()) if pair[0].startswith("ROUND"))
    titles, ends = header.split(), [found.end() for found in re.finditer(r"\S+", header)]
    shown = {title: first[:end].split()[-1] for title, end in zip(titles, ends, strict=True)}
    assert {stage: shown.get(stage.upper()) for stage in STAGES} == {stage: f"{taken:.1f}" for stage, taken in STAGES.items()}
    legend = " ".join(printed.splitlines()[-1].split())
    assert legend == "send 5% start 3% train 50% upload 20% score 2% aggregate 4% evaluate 16%"
    assert await command("rounds", "2", "--site", str(site)) == ExitCode.OK
    assert "send 0.5s  start 0.3s  train 5.0s  upload 2.0s  score 0.2s  aggregate 0.4s  evaluate 1.6s" in capsys.readouterr().out
    assert await command("rounds", "2", "--site", str(site), "--json") == ExitCode.OK
    assert last_json(capsys)["updates"]["edge-03"]["flagged"] is True
    assert await command("rounds", "9", "--site", str(site)) == ExitCode.USAGE


async def test_a_run_is_recorded_to_a_file_that_verifies(site, told, journal, capsys):
    file = site / "run.ndjson"
    assert await command("rounds", "--record", str(file), "--site", str(site), "--json") == ExitCode.OK
    first, last = journal.span(told)
    assert (last_json(capsys)["first"], [event.seq for event in replay.replay(file)]) == (first, list(range(first, last + 1)))


async def test_an_earlier_run_is_recorded_by_its_name(site, told, journal, capsys):
    said = {"site": "clinic", "site_hash": "ab", "task": "t", "rounds": 1, "devices": ["edge-01"], "quorum": 1, "rule": "mean"}
    journal.append_all([s.RunStarted.model_validate(said), s.RunFinished(status="stopped")], run="later")
    file = site / "run.ndjson"
    words = ("rounds", "--site", str(site), "--json", "--run", told)
    assert await command(*words, "--record", str(file)) == ExitCode.OK
    assert last_json(capsys)["run"] == told
    assert [event.seq for event in replay.replay(file)][-1] == journal.span(told)[1] < journal.head().seq
    assert await command(*words) == ExitCode.USAGE, "a run is named, and no file"


async def test_logs_of_an_unknown_host_are_a_usage_error(site, capsys):
    assert await command("logs", "edge-99", "--site", str(site)) == ExitCode.USAGE
    assert "coordinator, edge-01" in capsys.readouterr().err


@pytest.mark.parametrize("lines", ["-1", "10001", "many"])
async def test_more_lines_than_a_host_gives_are_a_usage_error(site, lines, capsys):
    with pytest.raises(SystemExit) as refused:
        await command("logs", "--lines", lines, "--site", str(site))
    assert refused.value.code == ExitCode.USAGE
    assert "--since goes further back" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--text", ""), ("--text", "x" * 201), ("--keep-mb", "3"), ("--format", "xml")])
async def test_what_cannot_be_looked_for_or_written_is_a_usage_error(site, words, capsys):
    with pytest.raises(SystemExit) as refused:
        await command("logs", *words, "--site", str(site))
    assert refused.value.code == ExitCode.USAGE
    assert words[0] in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("journalctl") is None, reason="no journald here")
async def test_logs_of_the_coordinator_come_from_its_journald(site, service):
    assert await command("logs", "--since", "10m", "--site", str(site)) == ExitCode.OK


async def test_a_coordinator_that_is_away_gives_its_own_exit_code(site, service, capsys):
    await asyncio.to_thread(service.end)
    try:
        assert await command("status", "--site", str(site), "--json") == ExitCode.MONITOR_UNREACHABLE
    finally:
        await asyncio.to_thread(service.start)
    assert last_json(capsys)["next"] == "edgefl doctor coordinator"


async def test_a_site_that_was_never_provisioned_says_what_to_do(tmp_path, capsys):
    (tmp_path / "site.yaml").write_text("name: clinic\ndevices: [{name: edge-01}]\n")
    assert await command("status", "--site", str(tmp_path)) == ExitCode.NOT_PROVISIONED
    assert "next: edgefl up" in capsys.readouterr().err


async def test_an_audits_result_that_waited_is_in_the_journal_and_waits_no_more(site, journal):
    waiting = site / ".edgefl" / "audits" / "20260302-membership" / "untold.json"
    waiting.parent.mkdir(parents=True)
    when = datetime(2026, 3, 2, 9, tzinfo=UTC)
    found = s.AuditFinished(audit="membership", passed=True, says="No level leaks more.", figures={"auc@4": 0.53}, at=when)
    waiting.write_text(found.model_dump_json())
    [event] = [event async for event in tell(load(site))]
    assert event == Finished("journal", "", "the audit log has 1 more")
    assert not waiting.exists()
    [told] = [event.body for event in journal.events() if isinstance(event.body, s.AuditFinished)]
    assert told.who, "the monitor says who told it"
    assert told == found.model_copy(update={"who": told.who})
    assert [event async for event in tell(load(site))] == [], "nothing is told twice"
