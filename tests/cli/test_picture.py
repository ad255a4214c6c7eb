"""The demo's last words, rendered from recorded events and a matrix as it is proven: everything that they promise is there."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from edgefl.cli.picture import picture, program, sparkline
from edgefl.fleet.evidence import Proof, Result
from edgefl.fleet.probes import matrix
from edgefl.infra.inventory import Host, Inventory
from edgefl.monitor.state import FederationState
from edgefl.operations.summary import Stage, Summary
from edgefl.site.model import Site
from tests.console.conftest import ATTACKER, DEVICES, story

OPEN = "edge-03/edgefl-node → tcp internet:443"


def proof(*wrong: str) -> Proof:
    """Every path of a lab of ten devices, as it must be but for those named."""
    site = Site.model_validate({"name": "hospital-net", "devices": [{"name": name} for name in DEVICES]})
    hosts = [Host("coordinator", "coordinator", "10.77.0.10", 22, "root")]
    hosts += [Host(name, "device", f"10.77.0.{11 + place}", 22, "root") for place, name in enumerate(DEVICES)]
    results = []
    for probe in matrix(site, Inventory(tuple(hosts))):
        other = "closed" if probe.expected == "open" else "open"
        results.append(Result(probe, other if probe.id in wrong else probe.expected, "tried"))
    assert sum(not result.is_as_expected for result in results) == len(wrong)
    return Proof("hospital-net", "2026-03-02T09:00:07.000000+00:00", tuple(results))


@pytest.fixture(scope="module")
def summary() -> Summary:
    state = FederationState().apply_all(story(rounds=5, of=5))
    assert state.run is not None
    finished = replace(state, run=replace(state.run, accuracy=state.rounds[-1].accuracy))
    stages = (Stage("data", 2.0), Stage("proof", 5.5), Stage("proof", 0.5), Stage("run", 80.0))
    return Summary(stages, finished, (ATTACKER,), 0.6, "/srv/models/4.safetensors", "coordinator:/var/lib/journal.db", proof())


def rendered(summary: Summary, width: int = 104) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(picture(summary, Path("sites/demo")))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def lines(text: str, beginning: str) -> list[str]:
    """The lines that begin with this, without the frame."""
    stripped = (line.strip("│ ") for line in text.splitlines())
    return [line for line in stripped if line.startswith(beginning)]


def test_where_the_time_went_is_added_up_by_stage(summary: Summary) -> None:
    text = rendered(summary)
    [proven] = lines(text, "proof")
    assert proven.endswith("6.0 s")
    [ran] = lines(text, "run  ")
    assert ran.count("━") == 24, "the longest stage has the longest bar"
    assert "88.0 s" in text


def test_training_is_a_curve_with_the_floor_that_it_reached(summary: Summary) -> None:
    text = rendered(summary)
    [curve] = lines(text, "accuracy")
    assert sparkline(summary.curve) in curve
    assert f"{summary.curve[0]:.3f} → {summary.curve[-1]:.3f} in 5 rounds" in curve
    reached = summary.accuracy is not None and summary.accuracy >= 0.6
    assert ("✔ reached" if reached else "✖ missed") in text
    assert "✖ missed" in rendered(replace(summary, clean_floor=0.999))
    assert lines(rendered(replace(summary, clean_floor=None)), "floor") == []


def test_every_device_has_its_state_budget_flags_and_isolation(summary: Summary) -> None:
    text = rendered(summary)
    for name in DEVICES:
        row = summary.state.devices[name]
        [shown] = [line for line in lines(text, name) if "probes" in line]
        assert f"{row.epsilon.spent:.1f} / 8.0" in shown
        assert "✔ 14 probes" in shown
        assert str(row.samples) in shown
    [attacker] = [line for line in lines(text, ATTACKER) if "probes" in line]
    assert f"⚑ {summary.state.devices[ATTACKER].state}" in attacker


def test_the_matrix_of_isolation_has_a_row_for_every_host(summary: Summary) -> None:
    text = rendered(summary)
    assert "signed 09:00:07 UTC" in text
    for title in ("fleet port", "devices", "internet", "DNS", "own loopback", "from operator"):
        assert title in text
    assert summary.proof is not None
    for name in ("coordinator", *DEVICES):
        results = summary.proof.of(name)
        allowed = sum(result.probe.expected == "open" for result in results)
        rows = [line.split() for line in lines(text, name)]
        [numbers] = [row[1:] for row in rows if len(row) == 9]
        pairs = [cell.split("/") for cell in numbers if cell != "·"]
        assert sum(int(opened) for opened, _ in pairs) == allowed
        assert sum(int(closed) for _, closed in pairs) == len(results) - allowed


def test_a_path_that_is_not_as_the_site_says_stands_out_in_the_matrix(summary: Summary) -> None:
    assert "✖1" not in rendered(summary)
    wrong = rendered(replace(summary, proof=proof(OPEN)))
    assert [line for line in lines(wrong, "edge-03") if "✖1 0/" in line]


def test_a_site_that_was_never_proven_shows_no_matrix(summary: Summary) -> None:
    assert "Isolation\n" not in rendered(replace(summary, proof=None))


def test_flags_come_with_their_evidence_and_with_who_was_really_compromised(summary: Summary) -> None:
    text = rendered(summary)
    [flagged] = [line for line in lines(text, f"⚑ {ATTACKER}") if "rounds" in line]
    assert "rounds 3, 4: points away from its peers" in flagged
    assert "against a threshold of 2.50" in text
    [told] = [line for line in lines(text, ATTACKER) if "really compromised" in line]
    assert "by the demo" in told
    assert "nobody was flagged" in rendered(replace(summary, state=FederationState(), compromised=()))


def test_it_says_where_model_journal_and_result_lie_and_what_comes_next(summary: Summary) -> None:
    text = rendered(summary)
    assert lines(text, "model")[0].endswith("/srv/models/4.safetensors")
    assert lines(text, "journal")[0].endswith("coordinator:/var/lib/journal.db")
    assert lines(text, "result")[0].endswith("sites/demo/.edgefl/result.json")
    for command in ("console", "status", "down"):
        assert f"{program()} {command} --site sites/demo" in text


def test_no_line_is_wider_than_the_frame(summary: Summary) -> None:
    text = rendered(replace(summary, proof=proof(OPEN)), width=140)
    assert {len(line) for line in text.splitlines() if "⚑" not in line and line} == {104}
    assert "…" not in text


def test_the_next_command_is_one_that_the_shell_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / ".venv" / "bin" / "edgefl"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    assert program() == ".venv/bin/edgefl"
    monkeypatch.chdir("/")
    assert program() == str(script.relative_to("/"))
    monkeypatch.setenv("PATH", str(script.parent))
    assert program() == "edgefl"
    monkeypatch.setenv("PATH", "")
    script.unlink()
    assert program() == f"{script.with_name('python')} -m edgefl"
