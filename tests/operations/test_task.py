"""A task that cannot be trained is said before anything is deployed, with the user's own line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgefl.federation.outline import TaskInvalid
from edgefl.operations.task import prove_task
from edgefl.progress import Progress
from edgefl.site import Site


async def proved(site: Site) -> list[Progress]:
    return [event async for event in prove_task(site)]


TASK = """\
{first}
def dataset(directory, parameters): ...
def model(parameters): ...
def train(model, batches, optimizer, loss, parameters): ...
def evaluate(model, batches, parameters): ...
"""


def site(root: Path, first: str, *, privacy: str = "none", **task: object) -> Site:
    (root / "task.py").write_text(TASK.format(first=first))
    (root / ".edgefl").mkdir(exist_ok=True)
    values = {"name": "clinic", "devices": [{"name": "a"}], "task": {"module": "./task.py", **task}, "privacy": {"mode": privacy}}
    return Site.model_validate(values).at(root)


@pytest.mark.parametrize(
    ("first", "says"),
    [
        ("import nosuchmodule_xyz", "No module named 'nosuchmodule_xyz'"),
        ("raise RuntimeError('not today')", "RuntimeError: not today"),
        ("import os; os._exit(3)", "ends the process that imports it"),
    ],
)
async def test_a_task_that_does_not_import_is_said_with_its_line(tmp_path: Path, first: str, says: str) -> None:
    with pytest.raises(TaskInvalid, match=says) as refused:
        await proved(site(tmp_path, first))
    assert all((place.path, place.line) == (tmp_path / "task.py", 1) for place in refused.value.where)
    assert not (tmp_path / ".edgefl" / "task.proven").exists()


async def test_an_unknown_parameter_is_said(tmp_path: Path) -> None:
    with pytest.raises(TaskInvalid, match="did you mean"):
        await proved(site(tmp_path, "PARAMETERS = {'batch_size': 8}", parameters={"batch_sise": 4}))


async def test_batch_normalisation_under_privacy_is_said(tmp_path: Path) -> None:
    with pytest.raises(TaskInvalid, match="batch normalisation"):
        await proved(site(tmp_path, "from torch import nn\nNORM = nn.BatchNorm2d", privacy="dp-sgd"))


async def test_a_task_is_imported_again_only_when_it_changed(tmp_path: Path) -> None:
    mark = tmp_path / "imported"
    count = f"with open({str(mark)!r}, 'a') as file: file.write('x')"
    said = [await proved(site(tmp_path, first)) for first in (count, count, f"{count}  # changed")]
    assert mark.read_text() == "xx"
    assert [len(events) for events in said] == [2, 0, 2], "what takes seconds is said before and after"


MODEL = """\
from torch import nn
PARAMETERS = {"width": 3}
def dataset(directory, parameters): ...
def model(parameters): return nn.Sequential(nn.Linear(2, parameters["width"]), nn.Linear(parameters["width"], 2))
def train(model, batches, optimizer, loss, parameters): ...
def evaluate(model, batches, parameters): ...
"""


@pytest.mark.slow
async def test_a_model_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(TaskInvalid, match="`model` gave NoneType, not a torch module"):
        await proved(site(tmp_path, "", privacy="dp-sgd"))


@pytest.mark.slow
@pytest.mark.parametrize(("patterns", "says"), [(["head.*"], "no layer that `head.\\*`"), (["0.*", "1.*"], "names every layer")])
async def test_personal_layers_that_fit_no_layer_or_all_are_said(tmp_path: Path, patterns: list[str], says: str) -> None:
    planned = site(tmp_path, "", personal_layers=patterns, parameters={"width": 4})
    (tmp_path / "task.py").write_text(MODEL)
    with pytest.raises(TaskInvalid, match=says):
        await proved(planned)
    await proved(site_with(planned, ["1.*"]))


def site_with(site: Site, patterns: list[str]) -> Site:
    return site.model_copy(update={"task": site.task.model_copy(update={"personal_layers": patterns})}).at(site.root)
