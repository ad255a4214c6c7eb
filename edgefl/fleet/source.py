"""edgefl's own code as hosts get it: a tarball that is the same, byte by byte, for the same code."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import edgefl

_LEFT_OUT = {"__pycache__", "_share", "cli", "console", "operations", "__main__.py"}
"""Byte code, and what only the operator's machine runs: a host has no use for it, and does not restart when it changes."""


@dataclass(frozen=True, slots=True)
class Source:
    """The packed code and its hash, which covers every file's path and content and nothing else."""

    archive: bytes
    sha256: str


def pack(package: Path | None = None) -> Source:
    """Pack what hosts run of the `edgefl` package (the installed one by default), under its own name, owned by root, without
    times.
    """
    root = package or Path(edgefl.__file__).parent
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in _files(root):
            content = path.read_bytes()
            entry = tarfile.TarInfo(f"edgefl/{path.relative_to(root).as_posix()}")
            entry.size = len(content)
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(content))
    return Source(gzip.compress(tar.getvalue(), compresslevel=6, mtime=0), hashlib.sha256(tar.getvalue()).hexdigest())


def _files(root: Path) -> list[Path]:
    parts = ((path, path.relative_to(root).parts) for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(
        path for path, names in parts if not _LEFT_OUT.intersection(names) and not any(n.startswith(".") for n in names)
    )
