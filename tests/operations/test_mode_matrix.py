"""Which modes go together: one row for each line of the matrix, by what `edgefl check` does with a site.

A refusal has its code, its place and what works instead; what it names is then put in, and passes.
"""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgefl.errors import EdgeflError, ExitCode
from edgefl.site import load
from edgefl.site.invalid import SiteInvalid
from tests.operations.test_task import proved

Sections = dict[str, Any]
SITE, TASK = ExitCode.SITE_INVALID, ExitCode.TASK_INVALID
MASKED, GROUPS, ENCRYPTED = {"mode": "masked"}, {"mode": "masked", "group_size": 2}, {"mode": "homomorphic"}
MEAN, GUARD, TOP_K = {"rule": "mean", "byzantine": 0.0}, {"rule": "guard", "byzantine": 0.2}, {"mode": "top-k"}
PLAIN, DP = {"mode": "none"}, {"mode": "dp-sgd"}
LIBRARY = "from torch import nn\ndef made(width): return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width))\n"
MODEL = """\
import library
from torch import nn
PARAMETERS = {"width": 8, "norm": False}
def dataset(directory, parameters): ...
def model(parameters):
    return library.made(parameters["width"]) if parameters["norm"] else nn.Linear(4, parameters["width"])
def train(model, batches, optimizer, loss, parameters): ...
def evaluate(model, batches, parameters): ...
"""
LARGE, NORMED = {"parameters": {"width": 300_000}}, {"parameters": {"norm": True}}

ALLOWED = [
    pytest.param({"privacy": DP, "aggregation": GUARD, "compression": TOP_K}, id="DP + robust + top-k"),
    pytest.param({"privacy": DP, "aggregation": MEAN, "secure": {**MASKED, "bits": 8}}, id="DP + sums, dense"),
    pytest.param({"privacy": DP, "aggregation": MEAN, "secure": {**MASKED, "keep": 0.1}}, id="DP + sums, server mask"),
    pytest.param({"aggregation": GUARD, "secure": GROUPS}, id="sums of groups + robust"),
    pytest.param({"aggregation": MEAN, "secure": ENCRYPTED}, id="homomorphic + mean"),
]
SELECTED = {"selection": {"strategy": "performance"}}
LOST = {"rule": "guard", "byzantine": 0.3}
REFUSED = [
    # what is asked for, the key at fault, what works in words, and the same as sections
    ({"secure": MASKED, "aggregation": GUARD}, "rule", "secure.group_size: 2", {"secure": GROUPS}),
    ({"secure": MASKED, "aggregation": GUARD}, "rule", "rule: mean", {"aggregation": MEAN}),
    ({"secure": MASKED, "aggregation": GUARD}, "rule", "secure.mode: none", {"secure": PLAIN}),
    ({"secure": MASKED, "aggregation": MEAN, "run": SELECTED}, "strategy", "strategy: all", {"run": {}}),
    ({"secure": MASKED, "aggregation": MEAN, "run": SELECTED}, "strategy", "secure.mode: none", {"secure": PLAIN}),
    ({"secure": {**GROUPS, "group_size": 3}, "aggregation": GUARD}, "group_size", "group_size: 2", {"secure": GROUPS}),
    ({"secure": GROUPS, "aggregation": LOST}, "group_size", "a lower aggregation.byzantine", {"aggregation": GUARD}),
    ({"secure": {**GROUPS, "group_size": 1}, "aggregation": GUARD}, "group_size", "group_size: 2 or more", {"secure": GROUPS}),
    (
        {"secure": MASKED, "aggregation": MEAN, "compression": TOP_K},
        "compression",
        "mode: none with secure.mode: masked and secure.keep: 0.1",
        {"compression": PLAIN, "secure": {**MASKED, "keep": 0.1}},
    ),
    (
        {"secure": ENCRYPTED, "aggregation": MEAN, "compression": TOP_K},
        "compression",
        "mode: none with secure.mode: masked and secure.keep: 0.1",
        {"compression": PLAIN, "secure": {**MASKED, "keep": 0.1}},
    ),
    ({"secure": MASKED, "aggregation": MEAN, "compression": TOP_K}, "compression", "secure.mode: none", {"secure": PLAIN}),
    ({"secure": MASKED, "aggregation": MEAN, "run": {"mode": "asynchronous"}}, "run", "mode: synchronous", {"run": {}}),
    ({"secure": MASKED, "aggregation": MEAN, "run": {"mode": "asynchronous"}}, "run", "secure.mode: none", {"secure": PLAIN}),
    ({"secure": ENCRYPTED, "aggregation": GUARD}, "rule", "rule: mean", {"aggregation": MEAN}),
    ({"secure": ENCRYPTED, "aggregation": GUARD}, "rule", "secure.mode: none", {"secure": PLAIN}),
    ({"privacy": {**DP, "gdp": True}}, "gdp", "leave it out: epsilon is counted with PRV", {"privacy": DP}),
    ({"privacy": {**DP, "accountant": "gdp"}}, "accountant", "leave it out: epsilon is counted with PRV", {"privacy": DP}),
    ({"privacy": {**DP, "poisson_sampling": False}}, "poisson_sampling", "leave it out", {"privacy": DP}),
    ({"privacy": {**DP, "poisson_sampling": False}}, "poisson_sampling", "mode: none shuffles", {"privacy": PLAIN}),
]
MADE = [
    # the same for what only the made model shows, with what is wrong
    (
        {"secure": ENCRYPTED, "aggregation": MEAN, "privacy": PLAIN, "task": LARGE},
        "1,500,000 values, and homomorphic sums carry at most 1,000,000",
        "secure.mode: masked, which any size can take",
        {"secure": MASKED},
    ),
    (
        {"secure": ENCRYPTED, "aggregation": MEAN, "privacy": PLAIN, "task": LARGE},
        "1,500,000 values",
        "a smaller model",
        {"task": {}},
    ),
    ({"privacy": DP, "task": NORMED}, "layer `1` is BatchNorm1d, which mixes records", "privacy.mode: none", {"privacy": PLAIN}),
    ({"privacy": DP, "task": NORMED}, "layer `1` is BatchNorm1d", "use nn.GroupNorm", {"task": {}}),
]


def write(root: Path, sections: Sections) -> None:
    """The site's file; each key stands on a line of its own."""
    task = {"module": "./task.py", **sections.get("task", {})}
    site = {"name": "clinic", "devices": [{"name": f"d-{number}"} for number in range(10)], **sections, "task": task}
    (root / "site.yaml").write_text(yaml.safe_dump(deepcopy(site), sort_keys=False))
    (root / "task.py").write_text(MODEL)
    (root / "library.py").write_text(LIBRARY)


@pytest.mark.parametrize("sections", ALLOWED)
def test_modes_that_go_together_pass(tmp_path: Path, sections: Sections) -> None:
    write(tmp_path, sections)
    load(tmp_path, with_files=True)


@pytest.mark.parametrize(("sections", "key", "works", "instead"), REFUSED)
def test_modes_that_undo_each_other_are_refused_in_their_place_with_what_works(
    tmp_path: Path, sections: Sections, key: str, works: str, instead: Sections
) -> None:
    write(tmp_path, sections)
    with pytest.raises(SiteInvalid) as refused:
        load(tmp_path, with_files=True)
    assert refused.value.exit_code == SITE
    [finding] = refused.value.findings
    lines = (tmp_path / "site.yaml").read_text().splitlines()
    place = lines.index(f"{key}:") + 2 if f"{key}:" in lines else line_of(lines, key)
    assert finding.where.line == place
    assert works in finding.hint
    write(tmp_path, {**sections, **instead})
    load(tmp_path, with_files=True)


def line_of(lines: list[str], key: str) -> int:
    [line] = [number for number, text in enumerate(lines, start=1) if re.match(rf" +{key}:", text)]
    return line


@pytest.mark.slow  # a process makes the model
@pytest.mark.parametrize(("sections", "says", "works", "instead"), MADE)
async def test_a_model_that_the_modes_cannot_train_is_refused_before_anything_is_deployed(
    tmp_path: Path, sections: Sections, says: str, works: str, instead: Sections, *, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    write(tmp_path, sections)
    with pytest.raises(EdgeflError) as refused:
        await proved(load(tmp_path, with_files=True))
    assert refused.value.exit_code == TASK
    [where] = refused.value.where
    assert (where.path, where.line) == (tmp_path / "task.py", MODEL.splitlines().index("def model(parameters):") + 1)
    assert says in refused.value.what
    assert works in refused.value.hint
    write(tmp_path, {**sections, **instead})
    await proved(load(tmp_path, with_files=True))
