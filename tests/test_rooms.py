"""Imports go downward only, and modules stay small."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "edgefl"
ROOMS = ["cli", "console", "operations", "monitor", "federation", "fleet", "pki", "infra", "lab", "events", "site"]
GROUND = ["errors", "progress", "layout", "share", "voice", "__init__"]
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_share" not in path.parts)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {parts[1] for name in names if (parts := name.split("."))[0] == "edgefl" and len(parts) > 1} & set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_knows_only_the_rooms_below_it(path: Path) -> None:
    room = room_of(path)
    if room == "__main__":
        return
    allowed = set() if room in GROUND else set(ROOMS[ROOMS.index(room) :])
    assert imported_rooms(path) <= allowed


def test_every_module_lies_in_a_room() -> None:
    assert {room_of(path) for path in MODULES} <= {*ROOMS, *GROUND, "__main__"}


def test_no_module_is_longer_than_400_lines() -> None:
    assert [str(path) for path in MODULES if len(path.read_text().splitlines()) > 400] == []
