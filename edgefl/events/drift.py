"""What a host's own watcher says of its walls."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from edgefl.events.body import Body


class IsolationDrift(Body):
    """A host's walls were not as they were laid down. Until they are proven again nobody knows what passed meanwhile.

    found: what was wrong. healed: whether it is right again, as the host says. at: when it was found, by the host's clock.
    seconds: from then until it was right. times: how often, where it happened again before it could be told.
    """

    type: Literal["isolation_drift"] = "isolation_drift"
    device: str
    role: Literal["device", "coordinator"] = "device"
    found: Annotated[list[Annotated[str, Field(max_length=300)]], Field(min_length=1, max_length=20)]
    healed: bool
    at: datetime
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    times: Annotated[int, Field(ge=1)] = 1
