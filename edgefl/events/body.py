"""What every kind of event has in common."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """What one kind of event says. `run` and `round` stand in the envelope, not here.

    A number that is not finite (the score of an absurd update) travels as the string `Infinity`, `-Infinity` or `NaN`:
    JSON has none, and evidence must neither be lost nor stop a round.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="strings")
    version: ClassVar[int] = 1


class Unrecognised(Body):
    """An event of a kind that this version does not know, kept whole: a newer host in a site that is being upgraded."""

    model_config = ConfigDict(extra="allow")
    type: str
