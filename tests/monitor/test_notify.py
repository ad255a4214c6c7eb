"""The operator's own channels: a real Apprise to a real receiver, about a real journal behind a real gate."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from edgefl.cli.main import run as edgefl
from edgefl.errors import ExitCode
from edgefl.events import schema as s
from edgefl.operations import notify as operation
from tests.monitor import watching
from tests.monitor.conftest import wait_for

pytestmark = pytest.mark.slow

FLAG = s.FlagRaised(device="edge-03", rule="guard", score=9, threshold=2, peers=[0.5], reason="points away")
FAILED = s.RunFinished(status="failed", reason="no quorum")


@pytest.fixture
def receiver():
    with watching.receiver() as (at, got):
        yield at, got


@pytest.fixture
def told(site, receiver, monkeypatch) -> Path:
    """The site with a channel; the file with the addresses."""
    monkeypatch.setattr(operation, "_PAUSES_S", (0.01, 0.01))
    path = site / "site.yaml"
    said = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**said, "observability": {"notify": {"channels_file": "channels"}}}))
    channels = site / "channels"
    channels.write_text(f"# ours\njson://{receiver[0]}/secret-path\n")
    channels.chmod(0o600)
    (site / ".edgefl" / "notified.json").unlink(missing_ok=True)
    yield channels
    path.write_text(yaml.safe_dump(said))


async def command(site: Path, *words: str) -> int:
    """In a thread, since it brings its own event loop."""
    return await asyncio.to_thread(edgefl, ["notify", "--site", str(site), *words])


async def test_the_first_time_the_past_is_not_told_and_afterwards_nothing_is_missed_or_told_twice(
    site, journal, told, receiver, capsys
):
    journal.append(FLAG, run="1", round=1)
    assert await command(site, "--once") == ExitCode.OK
    assert receiver[1] == []
    for number in (2, 3):
        journal.append(FLAG, run="1", round=number)
    journal.append(s.DeviceState(device="edge-01", state="online"))
    journal.append(FAILED, run="1")
    assert await command(site, "--once") == ExitCode.OK
    said = {one.said["title"]: one.said for one in receiver[1]}
    assert set(said) == {"clinic: 2 updates were flagged", "clinic: run 1 failed"}
    assert said["clinic: run 1 failed"]["type"] == "failure"
    assert (
        "edge-03 was flagged in round 3 of run 1: guard: 9 against 2; points away"
        in said["clinic: 2 updates were flagged"]["message"]
    )
    assert await command(site, "--once") == ExitCode.OK
    assert len(receiver[1]) == 2
    shown = capsys.readouterr()
    kept = "".join(path.read_text(errors="replace") for path in (site / ".edgefl").rglob("*.json"))
    assert "secret-path" not in shown.out + shown.err + kept


async def test_it_follows_until_it_is_ended_and_goes_on_from_there(site, journal, told, receiver):
    from edgefl.operations.notify import notify
    from edgefl.site import load

    async def follow() -> None:
        async for _ in notify(load(site)):
            pass

    following = asyncio.create_task(follow())
    position = site / ".edgefl" / "notified.json"
    await asyncio.to_thread(wait_for, position.exists, "the beginning")
    event = journal.append(s.IsolationDrift(device="edge-02", found=["a rule is gone"], healed=False, at=datetime.now(UTC)))
    await asyncio.to_thread(wait_for, lambda: receiver[1], "word of the walls")
    await asyncio.to_thread(wait_for, lambda: json.loads(position.read_text())["seq"] >= event.seq, "the place to go on from")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert receiver[1][0].said["title"] == "clinic: the walls of edge-02 were changed"
    journal.append(FAILED, run="2")
    assert await command(site, "--once") == ExitCode.OK
    assert [one.said["title"] for one in receiver[1]][1:] == ["clinic: run 2 failed"]


async def test_a_channel_that_takes_nothing_is_named_and_the_others_hear(site, journal, told, receiver, capsys):
    told.write_text(f"json://{watching.free()}/\njson://{receiver[0]}/\n")
    await command(site, "--once")
    journal.append(FAILED, run="3")
    assert await command(site, "--once", "--json") == ExitCode.OK
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [one["subject"] for one in said if one["type"] == "warned"] == ["line 1 (json)"]
    assert len(receiver[1]) == 1
    assert await command(site, "--test") == ExitCode.FAILED
    assert "line 1 (json) took nothing" in capsys.readouterr().err
    assert receiver[1][-1].said["title"] == "clinic: a test"


async def test_another_journal_is_not_taken_for_the_one_that_was_told_of(site, journal, told, capsys):
    assert await command(site, "--once") == ExitCode.OK
    position = site / ".edgefl" / "notified.json"
    seq = journal.append(FAILED, run="4").seq
    for other in (seq, seq + 1000):
        position.write_text(json.dumps({"seq": other, "hash": "0" * 64}))
        assert await command(site, "--once") == ExitCode.JOURNAL_BROKEN
        assert "edgefl notify --from-now" in capsys.readouterr().err
    assert await command(site, "--once", "--from-now") == ExitCode.OK
    assert json.loads(position.read_text())["hash"] == journal.head().hash


@pytest.mark.parametrize(
    ("content", "mode", "what"),
    [
        ("json://x/", 0o644, "others may read"),
        ("# nobody\n", 0o600, "names no channel"),
        ("\nnonsense-hunter2\n", 0o600, "channels:2 is no address"),
        ("\udcff", 0o600, "it is no text"),
    ],
)
async def test_a_file_of_channels_that_will_not_do_says_why_and_never_what_is_in_it(told, capsys, content, mode, what):
    told.write_bytes(content.encode(errors="surrogateescape"))
    told.chmod(mode)
    assert await command(told.parent, "--once") == ExitCode.USAGE
    said = capsys.readouterr().err
    assert what in said
    assert "hunter2" not in said


async def test_one_process_tells_and_a_site_without_channels_says_how(site, told, capsys):
    from edgefl.site import load

    with operation._position(load(site)):
        assert await command(site, "--once") == ExitCode.LOCKED
    (site / "site.yaml").write_text("name: clinic\ndevices: [{name: edge-01}]\n")
    assert await command(site) == ExitCode.USAGE
    assert "channels_file" in capsys.readouterr().err
