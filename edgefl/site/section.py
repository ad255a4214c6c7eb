"""What every section of site.yaml is."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Address = IPv4Address | IPv6Address
Port = Annotated[int, Field(ge=1, le=65535)]


class Model(BaseModel):
    """Frozen, closed to unknown keys, with its fields' docstrings as descriptions."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
