"""An audit from the operator's side: a process beside it, a result that waits for a coordinator, errors with codes."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from edgefl.cli.audit import _with_own
from edgefl.cli.main import run
from edgefl.errors import EdgeflError, ExitCode
from edgefl.operations.audit import audit
from edgefl.operations.deeds import pending, tell
from edgefl.operations.program import program
from edgefl.progress import Progress, Step, Warned
from edgefl.site import Site, load

TASK = Path(__file__).parents[1] / "federation" / "privacy" / "audits" / "coin_task.py"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site.yaml").write_text(
        "name: clinic\ninfrastructure: {module: lab}\ndevices: [{name: edge-01, data: data/edge-01}]\n"
        f"task: {{module: {TASK}}}\n"
        "run: {rounds: 2}\nprivacy: {epsilon_per_run: 2.0}\n"
    )
    return tmp_path


@pytest.fixture
def data(site: Path) -> Path:
    directory = site / "data" / "edge-01"
    directory.mkdir(parents=True)
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((120, 32)).astype(np.float32), rng.integers(0, 2, 120).astype(np.int64)
    np.savez(directory / "records.npz", x=x, y=y)
    return directory


async def told(events) -> list[Progress]:
    return [event async for event in events]


def children() -> list[str]:
    """The command lines of this process's children."""
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    lines = []
    for pid in listed.split():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            lines.append(Path(f"/proc/{pid}/cmdline").read_text())
    return lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "more", "figures"),
    [
        (
            "membership",
            ("--epsilon", "2,inf", "--models", "8", "--records", "100"),
            {"auc@2", "epsilon_low@2", "auc@inf", "epsilon_low@inf"},
        ),
        (
            "inversion",
            ("--records", "1"),
            {"psnr@plain", "psnr@clipped", "psnr@ε 2", "psnr@sum of 2, plain", "psnr@sum of 2, ε 2"},
        ),
        ("baseline", (), set()),
    ],
)
def test_the_command_ends_with_a_report_and_a_result_that_waits_for_the_journal(  # noqa: PLR0917  # fixtures and a row
    site, data, capsys, kind, more, figures
) -> None:
    code = run(["audit", kind, "--site", str(site), *more, "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == ExitCode.OK
    assert Path(lines[-1]["report"]).is_file()
    assert any(line.get("type") == "warned" and "no coordinator" in line["what"] for line in lines)
    ((path, body),) = pending(load(site))
    assert (body.audit, body.passed) == (kind, True)
    assert set(body.figures) >= figures
    assert path.parent == Path(lines[-1]["report"]).parent


@pytest.mark.parametrize(("mode", "levels"), [("dp-sgd", [1, 2, 3, 5, 10, float("inf")]), ("none", [1, 3, 5, 10, float("inf")])])
def test_the_usual_claims_are_audited_beside_the_sites_own(mode: str, levels: list[float]) -> None:
    assert _with_own(mode, 2.0) == levels


@pytest.mark.slow
async def test_an_audit_that_is_cancelled_leaves_no_process_and_keeps_what_was_finished(site, data) -> None:
    stream = audit(load(site), "membership", options={"levels": "2,inf", "models": 8, "records": 100})
    async for event in stream:
        if isinstance(event, Step) and event.subject == "no noise":
            break
    await stream.aclose()
    assert not [command for command in children() if "edgefl.federation.privacy.audits" in command]
    assert len(list((site / ".edgefl" / "audits" / "parts").glob("*.json"))) == 1


async def test_data_that_lie_on_devices_are_not_fetched(tmp_path) -> None:
    device = {"name": "a", "address": "192.0.2.7", "data": "/srv/data"}
    site = Site.model_validate({"name": "clinic", "devices": [device], "infrastructure": {"module": "static"}}).at(tmp_path)
    with pytest.raises(EdgeflError, match="lie on its devices") as refused:
        await told(audit(site, "membership"))
    assert "--data DIR" in refused.value.hint
    assert refused.value.exit_code == ExitCode.USAGE


async def test_a_missing_directory_is_said_before_anything_is_done(site) -> None:
    with pytest.raises(EdgeflError, match="no directory /nowhere"):
        await told(audit(load(site), "membership", data=[Path("/nowhere")]))
    with pytest.raises(EdgeflError, match=r"no data in .*edge-01"):
        await told(audit(load(site), "membership"))


@pytest.mark.parametrize("said", ["0", "x", "1,,2", "-3", "nan"])
def test_a_claim_that_is_none_is_refused(said, capsys) -> None:
    with pytest.raises(SystemExit) as refused:
        run(["audit", "membership", "--epsilon", said])
    assert refused.value.code == ExitCode.USAGE
    assert "above 0" in capsys.readouterr().err


async def test_nothing_waiting_is_told_to_nobody(site) -> None:
    (site / ".edgefl" / "audits" / "x").mkdir(parents=True)
    assert await told(tell(load(site))) == []
    (site / ".edgefl" / "audits" / "x" / "untold.json").write_text("{damaged")
    assert await told(tell(load(site))) == []


async def test_a_result_waits_while_there_is_no_coordinator(site) -> None:
    waiting = site / ".edgefl" / "audits" / "x" / "untold.json"
    waiting.parent.mkdir(parents=True)
    waiting.write_text(json.dumps({"audit": "baseline", "passed": True, "says": "", "at": "2026-03-02T09:00:00Z"}))
    (event,) = await told(tell(load(site)))
    assert isinstance(event, Warned)
    assert waiting.exists()


async def test_a_program_that_dies_is_an_error_with_its_last_words() -> None:
    with pytest.raises(EdgeflError, match=r"No module named edgefl\.nosuch"):
        await told(program("edgefl.nosuch", []))


async def test_what_a_task_prints_is_neither_progress_nor_the_end_of_its_program() -> None:
    assert await told(program("tests.operations.chatty_program", [])) == [Step("s", "", "done"), {"passed": True}]
