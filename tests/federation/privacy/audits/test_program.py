"""The program: a report that stands by itself, progress as lines of JSON, and work that is not lost."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgefl.federation.privacy.audits import __main__ as audits
from edgefl.federation.privacy.audits.results import Audit

TASK = Path(__file__).parent / "coin_task.py"


def arguments(data: Path, out: Path, *more: str, kind: str = "membership") -> list[str]:
    site = json.dumps({"name": "<clinic>", "hash": "ab"})
    return [kind, f"--task={TASK}", f"--data={data}", f"--out={out}", f"--site={site}", "--rounds=2", *more]


SMALL = ("--levels=2,inf", "--models=8", "--records=100", "--epsilon=2")


def told(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.slow  # matplotlib draws
def test_a_report_needs_nothing_beside_it_and_its_json_says_the_same(data, tmp_path, capsys):
    assert audits.main(arguments(data, tmp_path / "out", *SMALL)) == 0
    *progress, last = told(capsys)
    assert {line["type"] for line in progress} == {"started", "step", "finished"}
    page = Path(last["result"]["report"]).read_text()
    assert page.count("<svg") == 3
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert not re.search(r"url\((?!#|&quot;#)", page)
    assert "&lt;clinic&gt;" in page
    assert "<clinic>" not in page
    audit = Audit.model_validate_json(Path(last["result"]["json"]).read_bytes())
    assert [level.epsilon for level in audit.result.levels] == [2.0, None]
    assert audit.result.levels[0].is_site
    assert last["result"]["figures"] == audit.result.figures
    assert last["result"]["passed"]


@pytest.mark.slow
def test_what_was_finished_before_a_stop_is_not_done_again(data, tmp_path, capsys, monkeypatch):
    parts = f"--parts={tmp_path / 'parts'}"
    done = []
    real = audits.audit_level

    def stopped(subject, epsilon, **size):
        done.append(epsilon)
        if done == [2.0, None]:
            raise KeyboardInterrupt
        yield from real(subject, epsilon, **size)

    monkeypatch.setattr(audits, "audit_level", stopped)
    with pytest.raises(KeyboardInterrupt):
        audits.main(arguments(data, tmp_path / "out", *SMALL, parts))
    assert not (tmp_path / "out").exists()
    assert audits.main(arguments(data, tmp_path / "out", *SMALL, parts)) == 0
    assert done == [2.0, None, None]
    assert list((tmp_path / "parts").iterdir()) == []
    assert any(line.get("what") == "known from before" for line in told(capsys))


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (('--parameters={"kind": "norm"}', "--levels=inf"), 11, "cannot be trained at once"),
        (("--data=/nowhere",), 1, "cannot read /nowhere"),
        (('--parameters={"wdith": 3}',), 11, "no parameter `wdith`"),
    ],
)
def test_what_cannot_be_audited_is_said_as_an_error_with_its_code(data, capsys, more, code, says):
    assert audits.main(arguments(data, data / "out", *more)) == code
    said = told(capsys)[-1]
    assert says in said["what"]
    assert said["exit_code"] == code
