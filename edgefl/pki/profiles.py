"""Certificate profiles: what each role's certificate may do, read from certs/profiles.yaml."""

from __future__ import annotations

from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import BaseModel, ConfigDict, Field

from edgefl.share import share

Role = Literal["device", "gate", "superlink", "operator", "scraper", "exporter", "metrics", "signer"]
Usage = Literal["client_auth", "server_auth", "document_signing"]
USAGES: dict[Usage, ObjectIdentifier] = {
    "client_auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server_auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "document_signing": ObjectIdentifier("1.3.6.1.5.5.7.3.36"),  # RFC 9336
}
Curve = Literal["secp256r1", "secp384r1"]


class AuthorityProfile(BaseModel):
    """One of the certificates that sign others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    curve: Curve
    path_length: int


class RoleProfile(BaseModel):
    """What a role's certificate says and allows. `host_names`: it also carries its host's name and address."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    curve: Curve
    usages: list[Usage]
    host_names: bool
    names: list[str] = Field(default_factory=list)
    addresses: list[IPv4Address | IPv6Address] = Field(default_factory=list)


class Profiles(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    authority: dict[Literal["root", "issuing", "renewal"], AuthorityProfile]
    roles: dict[Role, RoleProfile]


@cache
def profiles() -> Profiles:
    """The shipped profiles; they are part of edgefl, so a broken file is a broken installation and raises as it is."""
    from ruamel.yaml import YAML  # keeps the CLI's start free of a parser that most commands never need

    return Profiles.model_validate(YAML(typ="safe").load((share("certs") / "profiles.yaml").read_text()))
