"""What site.yaml says of differential privacy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from edgefl.site.section import Model


class Privacy(Model):
    """Differential privacy: of records, enforced by each device for itself, or of whole devices, by the coordinator."""

    mode: Literal["dp-sgd", "client", "none"] = "dp-sgd"
    """`dp-sgd` clips and noises every record's gradient on the device (Opacus). `client` clips every device's update on the
    coordinator and noises their sum: it hides whole devices, and wants hundreds of them.
    """
    epsilon_limit: PositiveFloat = 8.0
    """Most epsilon that a device may ever spend at `delta`; kept in the device's own ledger (`client`: in the coordinator's)."""
    delta: Annotated[float, Field(gt=0, lt=1e-2)] = 1e-5
    """Probability that the epsilon bound fails; below 1 / records (`client`: below 1 / devices)."""
    epsilon_per_run: PositiveFloat = 4.0
    """What one run of `run.rounds` rounds may cost; the noise is solved from it."""
    max_grad_norm: PositiveFloat = 1.0
    """`dp-sgd`: L2 bound of one record's gradient."""
    clip_norm: PositiveFloat = 1.0
    """`client`: L2 bound of one device's update; where `clipping` is `adaptive`, of the first round."""
    clipping: Literal["fixed", "adaptive"] = "fixed"
    """`client`: `adaptive` lets the bound follow the median update, for a tenth more noise at most."""
