"""Error feedback: what compression left out of one round's update is added to the next one's (Karimireddy et al., 2019,
arXiv:1901.09847). Without it a value too small to be sent never is, and training ends elsewhere.

The state lies on the device, beside nothing that trains: it is made of updates that could have been sent as they were.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgefl.federation.compression.codec import decode, encode
from edgefl.site.model import Compression

Vector = NDArray[np.float32]
Sent = TypeVar("Sent")


class Feedback:
    """What one device has still to send, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def compress(self, delta: Vector, settings: Compression, training: str, round_: int) -> bytes:
        """Encode a round's update with what earlier rounds left out."""

        def send(whole: Vector) -> tuple[bytes, Vector]:
            payload = encode(whole, settings)
            return payload, decode(payload, len(whole))

        return self.carry(delta, send, training, round_)

    def carry(self, delta: Vector, send: Callable[[Vector], tuple[Sent, Vector]], training: str, round_: int) -> Sent:
        """What `send` makes of a round's update with what earlier rounds left out; what it leaves out now is on the disk when
        this returns, or forgotten where the disk takes nothing.

        send: gives what travels, and the vector that the receiver makes of it. A round that is done again begins with what it
        began with before, so nothing is sent twice. Another training begins with nothing; a run that
        goes on from another is the same one.
        """
        before = self._before(training, round_)
        if before is None or len(before) != len(delta):
            before = np.zeros_like(delta)
        whole = delta + before
        sent, received = send(whole)
        try:
            self._save(training, round_, before, whole - received)
        except OSError:  # a full disk costs a little accuracy, not the round; what is stale must not be sent again
            with suppress(OSError):
                self.path.unlink()
        return sent

    def _before(self, training: str, round_: int) -> Vector | None:
        """What the round begins with; None where the state is another training's, a later round's, damaged or missing."""
        try:
            with safe_open(self.path, "numpy") as state:
                about = state.metadata() or {}
                if about.get("training") != training:
                    return None
                done = int(about["round"])
                if done > round_:
                    return None
                found: Vector = state.get_tensor("before" if done == round_ else "after")
                return found
        except (OSError, SafetensorError, KeyError, ValueError):
            return None  # losing it costs a little accuracy; refusing to train would cost the round

    def _save(self, training: str, round_: int, before: Vector, after: Vector) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(self.path.name + ".new")
        with draft.open("wb") as file:
            file.write(save({"before": before, "after": after}, {"training": training, "round": str(round_)}))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
