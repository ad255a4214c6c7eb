"""The files that ship beside the code: playbooks, Terraform modules, certificate profiles.

In a checkout they lie at its top level, in a wheel under `edgefl/_share`.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def share(name: str) -> Path:
    """The directory `name` (`playbooks`, `terraform`, `certs`); FileNotFoundError when the installation is broken."""
    for candidate in (_PACKAGE / "_share" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"edgefl is installed without its {name}/ directory")
