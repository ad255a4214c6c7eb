"""From what a device sends to the vector that rules judge, and back: the one place that knows in which forms updates travel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefl.federation.aggregation.validate import Rejection, check_arrays
from edgefl.federation.aggregation.vectors import Template, Vector
from edgefl.federation.compression.codec import Malformed, decode
from edgefl.federation.compression.feedback import Feedback
from edgefl.federation.messages import DELTA, Trained, TrainRequest
from edgefl.site.model import Compression

Arrays = Mapping[str, NDArray[Any]]


def outgoing(
    trained: Arrays, start: Arrays, settings: Compression, feedback: Feedback, request: TrainRequest
) -> tuple[Arrays, bool]:
    """What a device sends of the model that it trained from `start`, and whether that is an encoded delta.

    A model that diverged goes as it is, to be rejected for what it is: it must not spoil what later rounds still have to send.
    """
    if settings.mode == "none":
        return trained, False
    with np.errstate(over="ignore", invalid="ignore"):
        delta = Template.of(start).delta(trained, start)
    if not np.isfinite(delta).all():
        return trained, False
    payload = feedback.compress(delta, settings, request.training, request.turn or request.round)
    return {DELTA: np.frombuffer(payload, np.uint8)}, True


def incoming(said: Trained, arrays: Arrays, start: Arrays, template: Template, out: Vector | None = None) -> Vector | Rejection:
    """What an update changes, (p,) float32 and finite, or why it is none. template: of `start`, the global model. out: where it
    is written, when given.
    """
    if said.encoding == "delta":
        try:
            delta = decode(_payload(arrays), template.size)
        except Malformed as error:
            return Rejection("undecodable", str(error))
        if out is not None:
            out[:] = delta
            delta = out
    else:
        problem = check_arrays(arrays, template)
        if problem is not None:
            return problem
        with np.errstate(over="ignore", invalid="ignore"):
            delta = template.delta(arrays, start, out)
    if not np.isfinite(delta).all():
        return Rejection("not_finite", "its distance from the global model overflows")
    return delta


def _payload(arrays: Arrays) -> bytes:
    if arrays.keys() != {DELTA} or arrays[DELTA].dtype != np.uint8 or arrays[DELTA].ndim != 1:
        raise Malformed("it says that it is encoded, and is not")
    return arrays[DELTA].tobytes()
