"""The device's last update, kept for a coordinator that dies before its round counts and asks again.

The same update once more costs no privacy, where training again would draw new noise from the same records and be charged again.
Only the very same question gets it: the same training, round, model and parameters, under the same terms of this host.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgefl.federation.hostconfig import HostConfig
from edgefl.federation.messages import Trained, TrainRequest

Arrays = Mapping[str, NDArray[Any]]


def question(request: TrainRequest, arrays: Arrays, host: HostConfig) -> str:
    """The SHA-256, hex, of all that an update depends on, besides the device's records."""
    asked = {**request.model_dump(mode="json", exclude={"run", "resumes", "model"}), "training": request.training}
    found = hashlib.sha256(json.dumps([asked, host.model_dump_json()], sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(array.data)
    return found.hexdigest()


class Answers:
    """The one answer that is kept, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def given(self, asked: str) -> tuple[Trained, dict[str, NDArray[Any]]] | None:
        """What was answered to this question; None where that was another one, or the file is damaged or missing."""
        try:
            with safe_open(self.path, "numpy") as kept:
                about = kept.metadata() or {}
                if about.get("question") != asked:
                    return None
                arrays = {name: kept.get_tensor(name) for name in list(kept.keys())}
                return Trained.model_validate_json(about["reply"]), arrays
        except (OSError, SafetensorError, KeyError, ValidationError):
            return None  # training again is right too; it only costs more

    def keep(self, asked: str, reply: Trained, arrays: Arrays) -> None:
        """Have this answer on the disk when this returns, or none where the disk takes nothing."""
        content = save(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            {"question": asked, "reply": reply.model_dump_json()},
        )
        draft = self.path.with_name(self.path.name + ".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except OSError:  # a full disk costs a repetition at worst, not the round
            with suppress(OSError):
                draft.unlink()
