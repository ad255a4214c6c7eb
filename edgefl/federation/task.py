"""A task: what is trained. The contract stands in `outline.py`, which reads it statically; this loads it to run.

Importing this module imports neither torch nor numpy. As a program (`python -m edgefl.federation.task REF [ROOT]`) it loads a
task, and prints what is wrong with it as JSON; with a third argument (JSON of `demands.Demands`) it also makes the model and
looks whether the site's modes can train it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgefl.errors import EdgeflError, Where
from edgefl.federation.outline import FUNCTIONS, Outline, Parameters, TaskInvalid, check_task, is_file

if TYPE_CHECKING:
    from torch import nn, optim
    from torch.utils.data import Dataset

__all__ = ["Datasets", "Outline", "Parameters", "Task", "TaskInvalid", "check_task", "load_task"]

Metrics = Mapping[str, float]
Batches = Iterable[Any]


@dataclass(frozen=True, slots=True)
class Datasets:
    """A device's own records: what it trains on, and what it holds out to measure with; torch datasets of tensors."""

    train: Dataset[Any]
    test: Dataset[Any]


@dataclass(frozen=True, slots=True)
class Task:
    """A loaded task: its functions, and what its outline says of it."""

    outline: Outline
    dataset: Callable[[Path, Parameters], Datasets]
    model: Callable[[Parameters], nn.Module]
    train: Callable[[nn.Module, Batches, optim.Optimizer, Any, Parameters], Metrics]
    evaluate: Callable[[nn.Module, Batches, Parameters], Metrics]
    loss: Callable[[Parameters], nn.Module] | None

    @property
    def ref(self) -> str:
        """As the site names it."""
        return self.outline.ref

    @property
    def metrics(self) -> tuple[str, ...]:
        """What `train` returns, sorted; an update with other names is rejected."""
        return tuple(sorted(self.outline.metrics))

    def settle(self, given: Parameters) -> Parameters:
        """The parameters to train with; see Outline.settle."""
        return self.outline.settle(given)


def load_task(ref: str, root: Path | None = None) -> Task:
    """Import a task: `package.module`, or a file `./task.py` relative to root.

    The source is checked first (`check_task`); what only running it can tell (an import that fails, a name that is no
    function) is a TaskInvalid too, with the user's own line.
    """
    outline = check_task(ref, root)
    module = _import(outline, root)
    for name in FUNCTIONS:
        if not callable(getattr(module, name, None)):
            raise TaskInvalid(
                f"task {ref}: `{name}` is {type(getattr(module, name, None)).__name__}, not a function",
                where=(Where(outline.path, outline.functions[name]),),
            )
    return Task(outline, module.dataset, module.model, module.train, module.evaluate, getattr(module, "loss", None))


def _import(outline: Outline, root: Path | None) -> ModuleType:
    try:
        if not is_file(outline.ref):
            if root is not None and str(root) not in sys.path:
                sys.path.append(str(root))
            return importlib.import_module(outline.ref)
        # The name holds the path, so that two sites' `task.py` in one process are two modules.
        name = f"edgefl_task_{hashlib.sha256(str(outline.path).encode()).hexdigest()[:12]}"
        spec = importlib.util.spec_from_file_location(name, outline.path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{outline.path} is no Python source")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(outline.path)]
        where = (Where(outline.path, frames[-1].lineno or 1, frames[-1].line or ""),) if frames else (Where(outline.path, 1),)
        raise TaskInvalid(f"task {outline.ref} does not import: {type(error).__name__}: {error}", where=where) from error
    return module


def main(ref: str, root: str = ".", asked: str = "") -> int:
    """The program; exits with the error's code where the task cannot be loaded."""
    try:
        task = load_task(ref, Path(root))
        if asked:
            from edgefl.federation.demands import Demands, check_model

            check_model(task, Demands.model_validate_json(asked))
    except EdgeflError as error:
        print(json.dumps(error.as_dict()))  # noqa: T201  # this is the program's edge
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
