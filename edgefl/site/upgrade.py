"""How a new version comes to the fleet."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from edgefl.site.section import Model


class Upgrade(Model):
    """How a new version comes to devices, and when it is taken back."""

    canary: PositiveInt = 1
    """Devices that get it first; then 10 %, 50 % and all of them."""
    rounds: PositiveInt = 2
    """Rounds of a run that is going that must end well before the next devices get it."""
    loss_margin: Annotated[float, Field(ge=0)] = 0.5
    """How much higher those rounds' loss may be than before, as a share of it: 0.5 allows half as much again."""
    time_margin: Annotated[float, Field(ge=0)] = 1.0
    """How much longer those rounds may take than before, as a share: 1 allows twice as long."""
    patience_s: PositiveFloat = 900.0
    """How long those rounds are awaited, in seconds; a federation that makes none by then is not healthy."""
