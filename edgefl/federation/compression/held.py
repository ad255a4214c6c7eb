"""The global model that a device holds, so that the next one can reach it as what has changed: `compression.down`.

A model is known by its version, a hash of its arrays. Whoever is asked to build on a version that is not held says so, and gets
the whole model: a new disk, a lost file or a restored backup cost one more message and nothing else.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgefl.federation.aggregation.vectors import Arrays, Template
from edgefl.federation.compression.codec import Malformed, decode
from edgefl.federation.messages import DELTA, Model


class VersionMissing(Exception):
    """The device does not hold what it should build on, or what it built is not what was meant."""


def version_of(arrays: Arrays) -> str:
    """The version of a model: SHA-256 over names, types, shapes and values, hex."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}\n{array.dtype.str}\n{array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class Held:
    """The last global model that a device received, in a file; nothing when the file is damaged or gone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def model(self, told: Model, arrays: Arrays) -> Arrays:
        """The model that a request means, kept for the next one where it has a version. Raises VersionMissing."""
        if not told.version:
            return arrays
        held = self._read()
        if held is not None and version_of(held) == told.version:
            return held
        meant = arrays if not told.base else self._moved(held, told.base, arrays)
        if version_of(meant) != told.version:
            raise VersionMissing
        with suppress(OSError):  # a full disk costs the next round a whole model, not this one
            self._keep(meant)
        return meant

    def _moved(self, held: Arrays | None, base: str, arrays: Arrays) -> Arrays:
        if held is None or version_of(held) != base or arrays.keys() != {DELTA}:
            raise VersionMissing
        template = Template.of(held)
        try:
            return template.moved(held, decode(np.asarray(arrays[DELTA], np.uint8).tobytes(), template.size))
        except Malformed as error:
            raise VersionMissing from error

    def _read(self) -> Arrays | None:
        try:
            with safe_open(self.path, "numpy") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        except (OSError, SafetensorError):
            return None

    def _keep(self, arrays: Arrays) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(self.path.name + ".new")
        draft.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
        draft.replace(self.path)
