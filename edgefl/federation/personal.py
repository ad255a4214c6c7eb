"""Personal layers: parts of the model that each device trains for itself and that never leave it (FedPer, Arivazhagan et al.,
2019, arXiv:1912.00818).

Which they are stands in the device's own host.json; a coordinator that sends them is refused. They lie in the device's state and
outlive restarts and reinstallations, as the ledger does. With differential privacy the same clipped and noised steps train them
as the rest: what the ledger charges covers them too, though nobody else ever sees them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edgefl.errors import EdgeflError
from edgefl.federation.outline import TaskInvalid

Arrays = Mapping[str, NDArray[Any]]


class PersonalLayersLost(EdgeflError):
    """The device's own layers cannot be read or kept; training would quietly begin anew each round."""


def split(names: Iterable[str], patterns: Sequence[str], ref: str) -> tuple[frozenset[str], frozenset[str]]:
    """A model's arrays by name: those that are the device's own, and those that all share.

    patterns: shell globs over names as in `state_dict` (`head.*`, `4.weight`). Raises TaskInvalid for a pattern that names
    nothing, and where nothing would be left to share.
    """
    every = frozenset(names)
    listed = ", ".join(sorted(every)[:12]) + (", …" if len(every) > 12 else "")
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in every):
            raise TaskInvalid(f"task {ref} has no layer that `{pattern}` of personal_layers names", hint=f"it has {listed}")
    own = frozenset(name for name in every if any(fnmatchcase(name, pattern) for pattern in patterns))
    if own == every:
        raise TaskInvalid(
            f"personal_layers names every layer of task {ref}: nothing would be learnt together", hint=f"it has {listed}"
        )
    return own, every - own


class PersonalLayers:
    """One device's own layers, in a directory: a file for each task and shape, so that another task's are not mistaken for
    these, and are there again when that task comes back.
    """

    def __init__(self, directory: Path, patterns: Sequence[str]) -> None:
        self.directory, self.patterns = directory, tuple(patterns)

    def load(self, ref: str, initial: Arrays) -> dict[str, NDArray[Any]]:
        """The layers as they were last kept; `initial` on a device that has none yet, or whose file is damaged beyond reading.

        initial: the task's own initialisation of these layers. Raises PersonalLayersLost when the file is there and may not be
        read.
        """
        path = self._path(ref, initial)
        try:
            kept = load(path.read_bytes())
        except (FileNotFoundError, SafetensorError):
            return dict(initial)
        except OSError as error:
            raise PersonalLayersLost(f"the device's own layers in {path} cannot be read: {error.strerror}") from error
        fits = _shapes(kept) == _shapes(initial) and all(np.isfinite(array).all() for array in kept.values())
        return kept if fits else dict(initial)

    def keep(self, ref: str, arrays: Arrays) -> None:
        """Have them on the disk when this returns; a crash leaves all of the old ones or all of the new ones. Layers that
        diverged (NaN, infinity) are not kept: the last good ones stay.

        Raises PersonalLayersLost where the disk takes nothing.
        """
        if not all(np.isfinite(array).all() for array in arrays.values()):
            return
        path = self._path(ref, arrays)
        draft = path.with_name(path.name + ".new")
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor, for its mode
                file.write(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            raise PersonalLayersLost(f"the device's own layers cannot be kept in {path}: {error.strerror}") from error

    def _path(self, ref: str, arrays: Arrays) -> Path:
        fingerprint = hashlib.sha256(json.dumps([ref, sorted(_shapes(arrays).items())]).encode()).hexdigest()
        return self.directory / f"{fingerprint[:24]}.safetensors"


def _shapes(arrays: Arrays) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
