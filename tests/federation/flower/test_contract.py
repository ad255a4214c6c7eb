"""What edgefl relies on inside Flower is as it was measured. When this fails, Flower changed: measure anew, then move FLOWER."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from pathlib import Path

import pytest

from edgefl.federation.flower import contract, patches
from edgefl.federation.flower.contract import FLOWER, RELIED_ON, FlowerChanged, Symbol, faults, require

ROOM = Path(patches.__file__).parent
PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp"}
PATCHED = {"flwr", "uvicorn"}


@pytest.mark.parametrize("process", RELIED_ON)
def test_every_symbol_is_as_it_was_measured(process: str) -> None:
    assert faults(process) == []


def test_the_pinned_flower_is_installed_and_accepted() -> None:
    assert importlib.metadata.version("flwr") == FLOWER
    require(*RELIED_ON)


def test_another_flower_is_refused_with_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "FLOWER", "1.0.0")
    monkeypatch.setitem(RELIED_ON, "control", (Symbol("flwr.supercore.control:Gone", "runs are started through it"),))
    with pytest.raises(
        FlowerChanged, match=r"written for 1\.0\.0: flwr\.supercore\.control:Gone is gone .* runs are started"
    ) as refused:
        require("control")
    assert refused.value.hint == "pip install flwr==1.0.0"


def test_a_symbol_whose_inside_changed_is_a_fault() -> None:
    symbol = Symbol("flwr.supernode.start_client_internal:_push_messages", "its poll is shortened", ("time.sleep(99)",))
    assert symbol.fault() == (
        "flwr.supernode.start_client_internal:_push_messages no longer contains 'time.sleep(99)'; "
        "needed because its poll is shortened"
    )


def taken(source: str) -> set[str]:
    """What a module imports of Flower, or of a library that it patches, by its whole name; also where only its text names it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PATCHED:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] in PATCHED}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"flwr(\.\w+)+", str(node.value)):
            found.add(str(node.value))
    return found - PUBLIC


def unlisted(names: set[str]) -> list[str]:
    """Those that no row has, neither itself nor something in it."""
    rows = [symbol.path.replace(":", ".") for symbols in RELIED_ON.values() for symbol in symbols]
    return sorted(name for name in names if not any(f"{row}.".startswith(f"{name}.") for row in rows))


def test_whatever_is_imported_of_private_flower_stands_in_the_contract() -> None:
    names = taken(Path(patches.__file__).read_text())
    assert {"flwr.proto.control_pb2", "flwr.supernode.start_client_internal", "uvicorn.config"} < names
    assert unlisted(names) == []


def test_an_import_without_a_row_would_be_found() -> None:
    source = "def one():\n    from flwr.supercore.run import Run\n    import_module('flwr.other.place')\n    import flwr.app\n"
    assert unlisted(taken(source)) == ["flwr.other.place", "flwr.supercore.run.Run"]


@pytest.mark.slow
def test_private_flower_is_imported_in_one_module_alone() -> None:
    found = {}
    for path in sorted(ROOM.parents[1].rglob("*.py")):
        if path == Path(patches.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            modules = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            if private := [module for module in modules if module.split(".")[0] == "flwr" and module not in PUBLIC]:
                found[path.name] = private
    assert found == {}
