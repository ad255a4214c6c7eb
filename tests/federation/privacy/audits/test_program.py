"""The program: a report that stands by itself, progress as lines of JSON, and work that is not lost."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgefl.federation.privacy.audits import __main__ as audits
from edgefl.federation.privacy.audits.results import Audit, Baseline, Inversion, Membership

TASK = Path(__file__).parent / "coin_task.py"


def arguments(data: Path, out: Path, *more: str, kind: str = "membership") -> list[str]:
    site = json.dumps({"name": "<clinic>", "hash": "ab"})
    return [kind, f"--task={TASK}", f"--data={data}", f"--out={out}", f"--site={site}", "--rounds=2", *more]


SMALL = ("--levels=2,inf", "--models=8", "--records=100", "--epsilon=2")


def told(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.slow  # matplotlib draws
@pytest.mark.parametrize(
    ("kind", "more", "plots"),
    [
        ("membership", SMALL, 3),
        ("inversion", ("--records=1", "--devices=2", "--epsilon=2"), 1),
        ("baseline", ("--epsilon=2",), 1),
    ],
)
def test_a_report_needs_nothing_beside_it_and_its_json_says_the_same(  # noqa: PLR0917  # fixtures and a row
    data, tmp_path, capsys, kind, more, plots
):
    assert audits.main(arguments(data, tmp_path / "out", *more, kind=kind)) == 0
    *progress, last = told(capsys)
    assert {line["type"] for line in progress} == {"started", "step", "finished"}
    page = Path(last["result"]["report"]).read_text()
    assert page.count("<svg") == plots
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert not re.search(r"url\((?!#|&quot;#)", page)
    assert "&lt;clinic&gt;" in page
    assert "<clinic>" not in page
    audit = Audit.model_validate_json(Path(last["result"]["json"]).read_bytes())
    assert audit.result.kind == last["result"]["kind"] == kind
    assert last["result"]["figures"] == audit.result.figures
    assert len(audit.result.figures) >= 2
    assert last["result"]["passed"]
    shown = re.sub(r"<[^>]+>", " ", page)
    for figure in stated(audit.result):
        assert figure in shown


def stated(result: Membership | Inversion | Baseline) -> list[str]:
    """What the report must show of its result, as text."""
    if isinstance(result, Membership):
        assert [level.epsilon for level in result.levels] == [2.0, None]
        assert result.levels[0].is_site
        attacks = [attack for level in result.levels for attack in level.attacks]
        intervals = [f"{one.auc.value:.3f} ({one.auc.low:.3f}–{one.auc.high:.3f})" for one in attacks]
        assert all(one.auc.low < one.auc.value < one.auc.high or one.auc.low == one.auc.high == 1 for one in attacks)
        bounds = [f" {level.epsilon_low:.2f} " for level in result.levels]
        return ["TPR at 1 % FPR", *intervals, *(f" {one.tpr_at_1:.1%} " for one in attacks), *bounds]
    if isinstance(result, Inversion):
        assert [scene.name for scene in result.scenes if scene.is_site] == ["ε 2"]
        assert {one.attack for scene in result.scenes for one in scene.reconstructions} == {"naive", "adaptive"}
        return [scene.name for scene in result.scenes]
    assert {curve.where for curve in result.curves} == {"federated", "centralised"}
    return [f"{curve.metrics[-1]['accuracy']:.4f}" for curve in result.curves]


def test_membership_is_audited_at_the_usual_levels_where_none_are_named(data):
    assert audits._parser().parse_args(arguments(data, data / "out")).levels == [1.0, 3.0, 5.0, 10.0, None]


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
