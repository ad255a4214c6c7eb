"""What a task module promises, read from its source without importing it: the operator needs no torch to be told of a mistake.

A task is a Python module of the user's with four functions (a fifth is optional) and two optional literals:

    def dataset(directory: Path, parameters) -> Datasets            # the device's own records
    def model(parameters) -> nn.Module                              # the same architecture everywhere
    def train(model, batches, optimizer, loss, parameters) -> dict  # one local pass; its metrics
    def evaluate(model, batches, parameters) -> dict                # at least "loss"
    def loss(parameters) -> nn.Module                               # optional; cross-entropy without it
    PARAMETERS = {"batch_size": 64, ...}                            # optional; the defaults, and which names exist
    METRICS = ("loss",)                                             # optional; what train returns
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from edgefl.errors import EdgeflError, ExitCode, Where

Parameter = bool | int | float | str
Parameters = Mapping[str, Parameter]

TRAINING: Parameters = {"learning_rate": 0.1, "momentum": 0.0, "batch_size": 64, "local_epochs": 1.0, "proximal_mu": 0.0}
"""What local training itself reads, whatever the task; `local_epochs` may be a fraction of a pass, `proximal_mu` is FedProx's."""

FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "dataset": ("directory", "parameters"),
    "model": ("parameters",),
    "train": ("model", "batches", "optimizer", "loss", "parameters"),
    "evaluate": ("model", "batches", "parameters"),
}
OPTIONAL: Mapping[str, tuple[str, ...]] = {"loss": ("parameters",)}
LITERALS: Mapping[str, type] = {"PARAMETERS": dict, "METRICS": tuple}


class TaskInvalid(EdgeflError):
    """The task module cannot be used, and why; said before anything is deployed."""

    exit_code = ExitCode.TASK_INVALID


@dataclass(frozen=True, slots=True)
class Outline:
    """What a task module holds.

    ref: as the site names it. path: its source. functions: name to line. parameters: the defaults of `TRAINING` with the
    module's own over them. closed: the module lists its parameters, so others are mistakes. metrics: what `train` returns.
    batch_norm: the first line that uses batch normalisation, which mixes records and so forbids DP-SGD; 0 without.
    """

    ref: str
    path: Path
    functions: Mapping[str, int]
    parameters: Parameters
    closed: bool
    metrics: tuple[str, ...]
    batch_norm: int = 0

    def settle(self, given: Parameters) -> Parameters:
        """The parameters to train with: the site's over the task's over the general ones.

        Raises TaskInvalid on a name that the task does not list, on another type than the default's, and on values that
        cannot train.
        """
        for name, value in given.items():
            known = self.parameters.get(name)
            if known is None and self.closed:
                raise TaskInvalid(
                    f"task {self.ref} has no parameter `{name}`{did_you_mean(name, self.parameters)}",
                    hint="its parameters are " + ", ".join(sorted(self.parameters)),
                )
            if known is not None and not _same_kind(value, known):
                raise TaskInvalid(f"task {self.ref}: parameter `{name}` is {value!r}, but it is of type {type(known).__name__}")
        settled = {**self.parameters, **given}
        for name in ("learning_rate", "batch_size", "local_epochs"):
            if not float(settled[name]) > 0:
                raise TaskInvalid(f"task {self.ref}: parameter `{name}` is {settled[name]!r}, but must be above 0")
        if not float(settled["proximal_mu"]) >= 0:
            raise TaskInvalid(f"task {self.ref}: parameter `proximal_mu` is {settled['proximal_mu']!r}, but must be 0 or above")
        return settled


def check_task(ref: str, root: Path | None = None, parameters: Parameters | None = None, *, private: bool = False) -> Outline:
    """Read a task's source and say what it holds, without importing it or anything that it imports.

    ref: `package.module`, or a file `./task.py` relative to root (the site's directory). parameters: the site's, checked
    too. private: the task will train with DP-SGD, so batch normalisation is an error.
    Raises TaskInvalid with the line: no such file or module, a syntax error, a function that is missing or takes other
    arguments, a literal of another kind, an unknown parameter.
    """
    path = source_of(ref, root)
    outline = _outline(ref, path, _parse(ref, path))
    if private and outline.batch_norm:
        raise TaskInvalid(
            f"task {ref} uses batch normalisation, which mixes records and cannot be trained with DP-SGD",
            hint="use nn.GroupNorm, or privacy.mode: none",
            where=(_where(path, outline.batch_norm),),
        )
    outline.settle(parameters or {})
    return outline


def source_of(ref: str, root: Path | None) -> Path:
    """The file that holds a task; nothing is imported, not even the packages above it."""
    if is_file(ref):
        path = Path(ref) if root is None else root / ref
        if not path.is_file():
            raise TaskInvalid(
                f"there is no task file {path}", hint="task.module names a file relative to site.yaml, or a Python module"
            )
        return path.resolve()
    search: list[str] | None = [str(root), *sys.path] if root is not None else None
    parts = ref.split(".")
    if not all(part.isidentifier() for part in parts):
        raise TaskInvalid(f"{ref!r} is neither a Python module nor a file", hint="write `package.module` or `./task.py`")
    for depth in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:depth]), search)
        if spec is None:
            raise TaskInvalid(
                f"there is no Python module `{'.'.join(parts[:depth])}` for task {ref}", hint="is its package installed?"
            )
        search = list(spec.submodule_search_locations or [])
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise TaskInvalid(f"task {ref} has no Python source", hint="a task is one module, not a package without code")
    return Path(spec.origin)


def is_file(ref: str) -> bool:
    """Whether a reference means a file rather than a module."""
    return ref.endswith(".py") or "/" in ref


def did_you_mean(name: str, among: Mapping[str, object]) -> str:
    """`; did you mean …?` when something near exists."""
    near = get_close_matches(name, list(among), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _parse(ref: str, path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        place = Where(path, error.lineno or 1, (error.text or "").rstrip())
        raise TaskInvalid(f"task {ref} is not valid Python: {error.msg}", where=(place,)) from error
    except (OSError, ValueError) as error:
        raise TaskInvalid(f"task {ref} cannot be read: {error}", where=(Where(path, 1),)) from error


def _outline(ref: str, path: Path, tree: ast.Module) -> Outline:
    names = dict(_bindings(tree))
    for name, arguments in {**FUNCTIONS, **OPTIONAL}.items():
        node = names.get(name)
        if node is None and name in FUNCTIONS:
            raise TaskInvalid(
                f"task {ref} has no function `{name}({', '.join(arguments)})`{did_you_mean(name, names)}",
                hint="edgefl.federation.tasks.images is a complete example",
                where=(_where(path, 1),),
            )
        if isinstance(node, ast.AsyncFunctionDef | ast.ClassDef):
            raise TaskInvalid(f"task {ref}: `{name}` must be a plain function", where=(_where(path, node.lineno),))
        if isinstance(node, ast.FunctionDef) and not _accepts(node, len(arguments)):
            raise TaskInvalid(
                f"task {ref}: `{name}` must take ({', '.join(arguments)})",
                where=(_where(path, node.lineno),),
            )
    literals = {name: _literal(ref, path, names[name], kind) for name, kind in LITERALS.items() if name in names}
    own: dict[str, Parameter] = literals.get("PARAMETERS", {})
    metrics: tuple[str, ...] = literals.get("METRICS", ("loss",))
    return Outline(
        ref=ref,
        path=path,
        functions={name: names[name].lineno for name in {**FUNCTIONS, **OPTIONAL} if name in names},
        parameters={**TRAINING, **own},
        closed="PARAMETERS" in literals,
        metrics=metrics,
        batch_norm=_batch_norm(tree),
    )


def _bindings(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Names that the module binds at its top level, with the statement that does."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node


def _accepts(function: ast.FunctionDef, count: int) -> bool:
    """Whether the function can be called with this many positional arguments."""
    arguments = function.args
    most = len(arguments.posonlyargs) + len(arguments.args)
    least = most - len(arguments.defaults)
    needs_keyword = any(default is None for default in arguments.kw_defaults)
    return least <= count and (count <= most or arguments.vararg is not None) and not needs_keyword


def _literal(ref: str, path: Path, node: ast.stmt, kind: type) -> Any:
    """The value of PARAMETERS or METRICS; it must be written out, so that it can be read without running the module."""
    name = "PARAMETERS" if kind is dict else "METRICS"
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    problem = f"task {ref}: {name} must be written out as a {kind.__name__}"
    try:
        literal = ast.literal_eval(value) if value is not None else None
    except ValueError as error:
        raise TaskInvalid(problem, where=(_where(path, node.lineno),)) from error
    if kind is tuple and isinstance(literal, list):
        literal = tuple(literal)
    if isinstance(literal, dict):
        fits = kind is dict and all(isinstance(key, str) and isinstance(entry, Parameter) for key, entry in literal.items())
    else:
        fits = kind is tuple and isinstance(literal, tuple) and all(isinstance(name, str) for name in literal)
    if not fits:
        raise TaskInvalid(problem, where=(_where(path, node.lineno),))
    return literal


def _batch_norm(tree: ast.Module) -> int:
    for node in ast.walk(tree):
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name.startswith(("BatchNorm", "SyncBatchNorm", "LazyBatchNorm")):
            return int(getattr(node, "lineno", 1))
    return 0


def _same_kind(value: object, default: object) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))


def _where(path: Path, line: int) -> Where:
    lines = path.read_text(errors="replace").splitlines()
    return Where(path, line, lines[line - 1] if 0 < line <= len(lines) else "")
