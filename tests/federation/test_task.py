"""A user's mistakes in a task are told with their line, before anything is imported where that can be."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgefl.errors import ExitCode
from edgefl.federation.task import TaskInvalid, check_task, load_task

GOOD = """\
from torch import nn
PARAMETERS = {"learning_rate": 0.2, "width": 4}
METRICS = ("loss",)
def dataset(directory, parameters): ...
def model(parameters): return nn.Linear(2, 2)
def train(model, batches, optimizer, loss, parameters): return {"loss": 0.0}
def evaluate(model, batches, parameters): return {"loss": 0.0}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(GOOD)
    return tmp_path


def wrong(site: Path, source: str, **options: object) -> TaskInvalid:
    (site / "task.py").write_text(source)
    with pytest.raises(TaskInvalid) as raised:
        check_task("./task.py", site, **options)  # type: ignore[arg-type]
    assert raised.value.exit_code is ExitCode.TASK_INVALID
    return raised.value


def test_a_good_task_says_what_it_holds(site: Path) -> None:
    outline = check_task("./task.py", site)
    assert outline.functions == {"dataset": 4, "model": 5, "train": 6, "evaluate": 7}
    assert outline.parameters["learning_rate"] == 0.2
    assert outline.parameters["batch_size"] == 64, "the general defaults fill in"
    assert outline.metrics == ("loss",)
    assert load_task("./task.py", site).settle({"width": 8})["width"] == 8


@pytest.mark.parametrize("ref", ["edgefl.federation.tasks.images", "edgefl.federation.tasks.hospitals"])
def test_the_shipped_tasks_are_good(ref: str) -> None:
    assert check_task(ref, private=True).closed
    assert load_task(ref).ref == ref


@pytest.mark.parametrize(
    ("change", "what", "line"),
    [
        (("def evaluate", "def evalute"), "no function `evaluate(model, batches, parameters)`; did you mean `evalute`?", 1),
        (("def model(parameters)", "def model()"), "`model` must take (parameters)", 5),
        (("def model(", "async def model("), "must be a plain function", 5),
        (("return nn.Linear(2, 2)", "return nn.Linear(2, 2"), "not valid Python", 5),
        (('("loss",)', "names()"), "METRICS must be written out", 3),
        (('"width": 4', '"width": [4]'), "PARAMETERS must be written out", 2),
        (('("loss",)', '{"loss": 1}'), "METRICS must be written out", 3),
    ],
)
def test_a_mistake_is_told_with_its_line(site: Path, change: tuple[str, str], what: str, line: int) -> None:
    error = wrong(site, GOOD.replace(*change))
    assert what in error.what
    assert error.where[0].line == line
    assert error.where[0].path == site / "task.py"


def test_batch_normalisation_is_an_error_only_with_privacy(site: Path) -> None:
    source = GOOD.replace("nn.Linear(2, 2)", "nn.BatchNorm1d(2)")
    assert "GroupNorm" in wrong(site, source, private=True).hint
    assert check_task("./task.py", site).batch_norm == 5


@pytest.mark.parametrize(
    ("parameters", "what"),
    [
        ({"widht": 3}, "no parameter `widht`; did you mean `width`?"),
        ({"width": "wide"}, "`width` is 'wide', but it is of type int"),
        ({"width": True}, "`width` is True"),
        ({"batch_size": 0}, "must be above 0"),
    ],
)
def test_the_sites_parameters_are_checked_against_the_tasks(site: Path, parameters: dict[str, object], what: str) -> None:
    assert what in wrong(site, GOOD, parameters=parameters).what


def test_a_task_that_lists_no_parameters_takes_any(site: Path) -> None:
    (site / "task.py").write_text(GOOD.replace("PARAMETERS", "OTHER"))
    assert check_task("./task.py", site, {"anything": "goes"}).settle({"anything": "goes"})["anything"] == "goes"


@pytest.mark.parametrize(
    ("ref", "what"),
    [
        ("./none.py", "there is no task file"),
        ("no.such.module", "there is no Python module `no`"),
        ("edgefl.federation.tasks.imges", "no Python module `edgefl.federation.tasks.imges`"),
        ("not a module", "neither a Python module nor a file"),
        ("math", "has no Python source"),
    ],
)
def test_a_task_that_is_not_there_is_said_to_be_missing(site: Path, ref: str, what: str) -> None:
    with pytest.raises(TaskInvalid, match=what.replace(".", r"\.")):
        check_task(ref, site)


def test_checking_runs_none_of_the_tasks_code(site: Path) -> None:
    (site / "pack").mkdir()
    (site / "pack" / "__init__.py").write_text("raise SystemExit('imported')")
    (site / "pack" / "mine.py").write_text("raise SystemExit('imported')\n" + GOOD)
    assert check_task("pack.mine", site).path == site / "pack" / "mine.py"
    code = (
        "import sys; from edgefl.federation.task import check_task; check_task('edgefl.federation.tasks.images');"
        "print(sorted({'torch', 'numpy', 'flwr', 'opacus'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_what_fails_at_import_points_at_the_users_line(site: Path) -> None:
    (site / "task.py").write_text(GOOD + "import nothing_of_that_name\n")
    with pytest.raises(TaskInvalid, match="nothing_of_that_name") as raised:
        load_task("./task.py", site)
    assert raised.value.where[0].line == 8


def test_a_name_that_is_no_function_is_found_when_loading(site: Path) -> None:
    (site / "task.py").write_text(GOOD.replace("def model(parameters): return nn.Linear(2, 2)", "model = 3"))
    with pytest.raises(TaskInvalid, match="`model` is int, not a function"):
        load_task("./task.py", site)
