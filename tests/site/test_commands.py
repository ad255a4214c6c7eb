"""`edgefl init` and `edgefl check`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgefl.cli.main import run
from edgefl.errors import ExitCode

Captured = pytest.CaptureFixture[str]


@pytest.mark.slow
def test_init_then_check(tmp_path: Path, capsys: Captured) -> None:
    assert run(["init", str(tmp_path / "clinic"), "--devices", "5"]) == ExitCode.OK
    assert "edgefl up" in capsys.readouterr().out
    assert run(["check", "--site", str(tmp_path / "clinic"), "--json"]) == ExitCode.OK
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["site"], len(told["devices"]), told["quorum"]) == ("clinic", 5, 4)


def test_init_leaves_a_site_that_exists_alone(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "site.yaml").write_text("mine")
    assert run(["init", str(tmp_path)]) == ExitCode.FAILED
    assert "it was left as it is" in capsys.readouterr().err
    assert (tmp_path / "site.yaml").read_text() == "mine"


def test_check_names_every_mistake_with_its_line(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "site.yaml").write_text("name: clinic\ndevices:\n  - {name: a, adress: 10.77.0.12}\nrun: {rounds: lots}\n")
    assert run(["check", "--site", str(tmp_path)]) == ExitCode.SITE_INVALID
    said = capsys.readouterr().err
    assert f"{tmp_path}/site.yaml:3" in said
    assert "did you mean address?" in said
    assert "run.rounds must be a whole number, not 'lots'" in said
    assert run(["check", "--site", str(tmp_path), "--json"]) == ExitCode.SITE_INVALID
    assert [finding["line"] for finding in json.loads(capsys.readouterr().out)["findings"]] == [3, 4]


def test_check_looks_at_the_task_without_importing_it(tmp_path: Path, capsys: Captured) -> None:
    text = "name: clinic\ntask: {module: ./task.py}\ndevices: [{name: a}]\n"
    (tmp_path / "site.yaml").write_text(text)
    (tmp_path / "task.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n\ndef model(parameters): ...\n")
    assert run(["check", "--site", str(tmp_path)]) == ExitCode.TASK_INVALID
    assert "task.py" in capsys.readouterr().err
    assert not (tmp_path / "imported").exists()


def test_check_warns_of_the_torch_that_up_would_refuse(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("edgefl.operations.task.find_spec", lambda _: None)  # the task's source is read, and that is all
    monkeypatch.setenv("EDGEFL_CACHE", str(tmp_path / "cache"))
    site = "name: clinic\ndevices: [{name: a}]\nruntime: {torch: %s}\n"
    (tmp_path / "site.yaml").write_text(site % "pypi")
    assert run(["check", "--site", str(tmp_path)]) == ExitCode.OK
    said = capsys.readouterr().out
    assert "! torch is taken from pip's index" in said
    assert "set `runtime.torch` in site.yaml to the index of torch's CPU builds" in said
    assert run(["check", "--site", str(tmp_path), "--json"]) == ExitCode.OK
    warned, result = map(json.loads, capsys.readouterr().out.splitlines())
    assert (warned["type"], warned["subject"], result["site"]) == ("warned", "torch", "clinic")
    (tmp_path / "site.yaml").write_text(site % "https://index.example/cpu")
    assert run(["check", "--site", str(tmp_path)]) == ExitCode.OK
    assert "torch is taken" not in capsys.readouterr().out
    (tmp_path / "site.yaml").write_text(site % "absent.whl")
    assert run(["check", "--site", str(tmp_path)]) == ExitCode.BUNDLE_INVALID


def test_check_prints_the_schema(capsys: Captured) -> None:
    assert run(["check", "--schema", "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["title"] == "edgefl site.yaml"


@pytest.mark.parametrize("count", ["0", "201", "many"])
def test_init_refuses_a_count_of_devices_that_no_site_has(tmp_path: Path, count: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["init", str(tmp_path), "--devices", count])
    assert caught.value.code == ExitCode.USAGE
