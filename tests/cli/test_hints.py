"""What edgefl tells its user to type next can be typed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgefl.cli.main import COMMANDS, _parser

TOP = Path(__file__).parents[2]
SOURCES = [*(TOP / "edgefl").rglob("*.py"), *(TOP / "playbooks").rglob("*.py")]
HINTS = {"hint", "fix", "look"}
"""How arguments and names are called that hold what to do next."""
HINTED = {"Concern": 2, "Problem": 1}
"""Calls whose argument at this place is such a hint."""
WITH_ACTIONS = {"bundle", "lab", "models", "audit", "certs", "enrol", "export"}
ANY = "x"
"""What stands for a value that is known at run time alone."""


def text(node: ast.AST) -> str:
    """All literal words of an expression; the alternatives of an `if` one after the other."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(ANY if isinstance(part, ast.FormattedValue) else text(part) for part in node.values)
    return " ; ".join(filter(None, map(text, ast.iter_child_nodes(node))))


def hints(tree: ast.AST) -> Iterator[str]:
    """Every text of a module that says what to do next."""
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg=name, value=value) | ast.Assign(targets=[ast.Name(id=name)], value=value) if name in HINTS:
                yield text(value)
            case ast.Call(func=ast.Name(id=name)) if name in HINTED:
                yield from map(text, node.args[HINTED[name] :])
            case ast.Constant() | ast.JoinedStr() if id(node) not in parts:
                yield from text(node).split("next: ")[1:]


def commands(hint: str) -> Iterator[list[str]]:
    """The command lines in a hint, without `edgefl`: with the options and values that follow at once, not the prose after."""
    words = [word.rstrip(".") for word in re.findall(r"[^\s`;,()']+|[;,]", hint)]
    for place, word in enumerate(words[:-1]):
        name, *rest = words[place + 1 :]
        if word != "edgefl" or name == ANY:
            continue
        line = [name, *(rest[:1] if name in WITH_ACTIONS else [])]
        for argument in rest[len(line) - 1 :]:
            if not re.fullmatch(rf"-.*|{ANY}|\d+|[A-Z]+|host-\d+", argument):
                break
            line.append(argument)
        yield line


FOUND = sorted(
    {
        (str(path.relative_to(TOP)), tuple(line))
        for path in SOURCES
        for hint in hints(ast.parse(path.read_text()))
        for line in commands(hint)
    }
)


def test_hints_are_found() -> None:
    assert len(FOUND) > 100
    expected = {("doctor", ANY), ("run", "--resume", ANY, "--rounds", ANY), ("lab", "up", "3"), ("up",)}
    assert expected <= {line for _, line in FOUND}
    source = "raise E('no', hint='edgefl rotate')\nout(f'done\\n  next: edgefl up {name}')"
    assert [line for hint in hints(ast.parse(source)) for line in commands(hint)] == [["rotate"], ["up", ANY]]


def test_every_hint_names_a_command_that_exists() -> None:
    assert [(path, line) for path, line in FOUND if line[0] not in COMMANDS] == []


def test_every_hint_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    refused = []
    for path, line in FOUND:
        if line[0] in WITH_ACTIONS and line[1] == ANY:
            continue  # one of several, known at run time
        argv = ["1" if word == ANY else word for word in line]
        try:
            _parser(argv).parse_args(argv)
        except SystemExit:
            refused.append((path, line, capsys.readouterr().err.splitlines()[-1]))
    assert refused == []
