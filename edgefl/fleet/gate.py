"""The coordinator's gate, told over SSH whom it lets in no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgefl.fleet.remote import ask
from edgefl.infra.inventory import Host


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the gate did. is_live: whether it runs; where it does not, it will refuse when it starts. ended: live connections."""

    is_live: bool
    ended: int


async def refuse(coordinator: Host, crl: bytes, serials: Sequence[str], names: Sequence[str]) -> Refusal:
    """Let certificates in no more, and end what lives under them; it holds through restarts of gate and host.

    crl: both lists in PEM. serials: as `anchors.revoked_serials` gives them. names: whose end of the tunnel is cut, too.
    Raises the errors of `ssh.run`, and ProgramFailed.
    """
    answer = await ask(coordinator, "gate", {"crl": crl.decode(), "serials": list(serials), "names": list(names)})
    return Refusal(bool(answer["live"]), int(answer["ended"]))
