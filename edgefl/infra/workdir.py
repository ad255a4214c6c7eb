"""The site's own Terraform directory, written from the site and from nothing else.

.edgefl/terraform/
engine.json          the engine that the site uses
terraform.rc         where providers come from: edgefl's own from the mirror below
bin/edgefl-terraform the embedded engine's executable
mirror/              edgefl's provider: a launcher of constant bytes, since the lock file hashes it
root/                main.tf, modules/, terraform.tfvars.json, terraform.tfstate
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgefl
from edgefl.errors import EdgeflError, ExitCode
from edgefl.infra.engine import Engine
from edgefl.share import share
from edgefl.site.addresses import assign
from edgefl.site.model import Device, Site

PROVIDER = "edgefl.infra.provider"
"""The module that Terraform starts as edgefl's provider."""
_SOURCE = Path("edgefl.local/edgefl/edgefl")
_VERSION = "1.0.0"
_PROVIDER_LAUNCHER = '#!/bin/sh\nexec "$EDGEFL_PYTHON" -m "$EDGEFL_PROVIDER" "$@"\n'
_ENGINE_LAUNCHER = '#!/bin/sh\nexec "$EDGEFL_PYTHON" -m edgefl.infra.shim "$@"\n'
_INSTALLATION = """\
provider_installation {
  filesystem_mirror {
    path    = MIRROR
    include = ["edgefl.local/*/*"]
  }
  direct {
    exclude = ["edgefl.local/*/*"]
  }
}
"""
"""edgefl's provider from its mirror and from nowhere else; only a module of the operator's own has others."""
_DROPPED = ("TF_CLI_ARGS", "TF_VAR_", "TF_WORKSPACE", "TF_DATA_DIR", "TF_REATTACH_PROVIDERS", "TF_PLUGIN_CACHE", "TF_INPUT")
"""Beginnings of inherited variables that would change what Terraform does to the site."""


class ModuleChanged(EdgeflError):
    """The site's hosts stand, but site.yaml now names another module, which knows nothing of them."""

    exit_code = ExitCode.SITE_INVALID


@dataclass(frozen=True, slots=True)
class Workdir:
    """The directory; nothing is written before `prepare` and `render`."""

    top: Path
    provider: str = PROVIDER

    @property
    def pin(self) -> Path:
        """The site's engine."""
        return self.top / "engine.json"

    @property
    def root(self) -> Path:
        """Where Terraform runs."""
        return self.top / "root"

    @property
    def state(self) -> Path:
        """Terraform's state: what exists."""
        return self.root / "terraform.tfstate"

    @property
    def log(self) -> Path:
        """What the last long command wrote to its standard error."""
        return self.top / "stderr.log"

    def prepare(self) -> None:
        """Write what every command needs: the provider's mirror, the configuration and the embedded engine's launcher."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.top.chmod(0o700)
        mirror = self.top / "mirror"
        launcher = mirror / _SOURCE / _VERSION / _platform() / f"terraform-provider-edgefl_v{_VERSION}"
        _write(launcher, _PROVIDER_LAUNCHER, 0o755)
        _write(self.top / "bin" / "edgefl-terraform", _ENGINE_LAUNCHER, 0o755)
        _write(self.top / "terraform.rc", _INSTALLATION.replace("MIRROR", json.dumps(str(mirror))))

    def render(self, site: Site) -> None:
        """Write the root of the site's module and its variables.

        Raises ModuleChanged when hosts of another module still stand.
        """
        module, before = site.infrastructure.module, self.module
        if before not in (None, module) and self.has_hosts:
            raise ModuleChanged(
                f"the site's hosts were made by the {before} module, and site.yaml now says {module}",
                hint=f"edgefl down, then edgefl up; or set infrastructure.module back to {before}",
            )
        shipped = share("terraform")
        _copy(shipped / "roots" / module, self.root)
        source = site.infrastructure.source
        if source is None:
            _copy(shipped / "modules" / module, self.root / "modules" / module)
        else:
            _copy_whole(source, self.root / "modules" / module)
        _write(self.root / "terraform.tfvars.json", json.dumps(variables(site), indent=2) + "\n")
        _write(self.top / "module", module)

    @property
    def module(self) -> str | None:
        """The module that the root was rendered for."""
        try:
            return (self.top / "module").read_text()
        except FileNotFoundError:
            return None

    @property
    def has_hosts(self) -> bool:
        """Whether the state holds anything."""
        try:
            return bool(json.loads(self.state.read_text())["resources"])
        except (FileNotFoundError, KeyError, ValueError):
            return False

    def executable(self, engine: Engine) -> str:
        """The path of the program that is the engine."""
        return engine.path or str(self.top / "bin" / "edgefl-terraform")

    def environment(self, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
        """The environment of every Terraform command: the inherited one without what would change its meaning."""
        kept = {key: value for key, value in inherited.items() if not key.startswith(_DROPPED)}
        code = [Path(edgefl.__file__).parents[1], *map(Path, filter(None, inherited.get("PYTHONPATH", "").split(os.pathsep)))]
        return kept | {
            "TF_CLI_CONFIG_FILE": str(self.top / "terraform.rc"),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
            "EDGEFL_PYTHON": sys.executable,
            "EDGEFL_PROVIDER": self.provider,
            "PYTHONPATH": os.pathsep.join(str(path.absolute()) for path in code),
            "PYTHONSAFEPATH": "1",
        }

    def fingerprint(self, engine: Engine) -> str:
        """What `init` depends on; while it stays the same, init need not run again."""
        digest = hashlib.sha256(f"{engine}\0{self.module}\0{_PROVIDER_LAUNCHER}".encode())
        for path in sorted(self.root.glob("**/*.tf")):
            if ".terraform" not in path.parts:
                digest.update(path.read_bytes())
        return digest.hexdigest()


def variables(site: Site) -> dict[str, Any]:
    """terraform.tfvars.json: the site in the modules' one contract. No secret is among it, not even a key's path."""
    if site.infrastructure.module != "lab":
        hosts = {
            host.name: {
                "role": host.role,
                "address": str(host.address) if host.address else None,
                "ssh_user": host.ssh_user,
                "ssh_port": host.ssh_port,
                "host_key": host.host_key,
            }
            for host in site.hosts
            if not (site.asks_module and isinstance(host, Device))
        }
        return {"devices": hosts}
    addresses = assign(site)
    hosts = {
        host.name: {
            "role": host.role,
            "address": str(addresses[host.name]),
            **host.limits.model_dump(),
            "data": str(host.data) if isinstance(host, Device) and host.data else None,
            "preloaded": host.preloaded if isinstance(host, Device) else host.role == "coordinator",
        }
        for host in site.hosts
    }
    return {"lab": {"directory": str(site.state / "lab"), "network": str(site.infrastructure.network)}, "devices": hosts}


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write where the text differs, so that what Terraform watches keeps its time."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f".{path.name}.new")
    written.write_text(text)
    written.chmod(mode)
    written.replace(path)


def _copy(source: Path, target: Path) -> None:
    """Make a directory's .tf files equal to the source's, leaving Terraform's own files there."""
    wanted = {path.name: path for path in _configuration(source)}
    target.mkdir(parents=True, exist_ok=True)
    for path in _configuration(target):
        if path.name not in wanted:
            path.unlink()
    for name, path in wanted.items():
        if not (target / name).exists() or (target / name).read_bytes() != path.read_bytes():
            shutil.copyfile(path, target / name)


def _copy_whole(source: Path, target: Path) -> None:
    """Make a directory equal to the operator's own module, templates and scripts too; Terraform's own files stay out of it, and
    the site's state, of which the target is a part: a module may lie beside site.yaml.
    """
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh, ignore=shutil.ignore_patterns(".edgefl", ".terraform*", "*.tfstate*"))
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _configuration(directory: Path) -> Iterator[Path]:
    yield from directory.glob("*.tf")


def _platform() -> str:
    """The machine in Go's words, as mirrors are laid out."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"{platform.system().lower()}_{machine}"
