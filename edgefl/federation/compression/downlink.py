"""The coordinator's side of `compression.down`: each device gets the smallest message that brings it to the global model.

`cached` changes nothing of the model: a device that holds it already is told so, which spares the second of a round's two
transfers. `quantised` also sends a new model as the quantised step from the one before; the coordinator takes the very step that
it sends, so that it and all devices hold the same bytes, and adds what quantising left out to the next step (error feedback on
the server's side: Tang et al., 2019, "DoubleSqueeze", arXiv:1905.05957).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from flwr.app import RecordDict

from edgefl.federation.aggregation.vectors import Arrays, Template, Vector
from edgefl.federation.compression.codec import decode, encode
from edgefl.federation.compression.held import version_of
from edgefl.federation.messages import DELTA, EvaluateRequest, Model, TrainRequest, pack
from edgefl.site.model import Compression

Request = TrainRequest | EvaluateRequest


@dataclass(slots=True)
class Downlink:
    """One run's models on their way down. held: the version that each device has shown to hold. left: what quantising left
    out of the steps so far.
    """

    settings: Compression
    held: dict[str, str] = field(default_factory=dict)
    left: Vector | None = None
    _version: str = ""
    _base: str = ""
    _step: bytes = b""

    def moved(self, arrays: Arrays, delta: Vector) -> Arrays:
        """The next global model, one delta (or what of it is sent) from this one."""
        template = Template.of(arrays)
        if self.settings.down != "quantised":
            self._version = ""
            return template.moved(arrays, delta)
        whole = delta if self.left is None else delta + self.left
        self._step = encode(whole, Compression(mode="quantised", bits=self.settings.down_bits))
        taken = decode(self._step, template.size)
        self.left = whole - taken
        moved = template.moved(arrays, taken)
        self._base, self._version = version_of(arrays), version_of(moved)
        return moved

    def contents(self, request: Request, arrays: Arrays, devices: Iterable[str], *, whole: bool = False) -> dict[str, RecordDict]:
        """Each device's message; those that need the same share one. whole: the model itself, whatever a device holds."""
        if self.settings.down == "none":
            return dict.fromkeys(devices, pack(request, arrays))
        self._version = self._version or version_of(arrays)
        made: dict[str, RecordDict] = {}
        contents = {}
        for device in devices:
            base = "" if whole else self._known(device)
            if base not in made:
                told = Model(version=self._version, base=base)
                made[base] = pack(request.model_copy(update={"model": told}), self._arrays(base, arrays))
            contents[device] = made[base]
        return contents

    def arrived(self, device: str) -> None:
        """The device has answered what only a holder of the newest model can."""
        self.held[device] = self._version

    def missing(self, device: str) -> None:
        """The device holds nothing that could be built on."""
        self.held.pop(device, None)

    def _known(self, device: str) -> str:
        """What a message to the device may build on; nothing when it must get the whole model."""
        held = self.held.get(device, "")
        return held if held == self._version or (held == self._base and self._step) else ""

    def _arrays(self, base: str, arrays: Arrays) -> Arrays:
        if not base:
            return arrays
        return {DELTA: np.frombuffer(self._step if base != self._version else b"", np.uint8)}
