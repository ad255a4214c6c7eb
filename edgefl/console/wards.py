"""What the keys from `Q` to `T` would do to devices, in the words in which it is asked, and the operation that does it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Literal

from edgefl.monitor.state import FederationState
from edgefl.operations.drain import drain, undrain
from edgefl.operations.enrol import STAGE, Token, open_token
from edgefl.operations.quarantine import quarantine, release
from edgefl.operations.rotate import rotate
from edgefl.operations.state import inventory_of
from edgefl.operations.verify import verify
from edgefl.progress import Finished, Progress
from edgefl.site.model import Site

Deed = Literal["quarantine", "release", "drain", "undrain", "rotate", "verify", "token"]
TOKEN_LIFE = timedelta(hours=1)
"""How long a token counts that is asked for here, as at the command line."""


def _verify(site: Site, *, names: Sequence[str]) -> AsyncIterator[Progress]:
    return verify(site, inventory_of(site), names)


async def _tokens(site: Site, *, devices: Sequence[str], why: str, given: list[Token]) -> AsyncIterator[Progress]:
    for device in devices:
        given.append(await open_token(site, device, life=TOKEN_LIFE, why=why))
        yield Finished(STAGE, device, "may come in once, within an hour", changed=True)


ACTS: Mapping[Deed, Callable[..., AsyncIterator[Progress]]] = {
    "quarantine": quarantine,
    "release": release,
    "drain": drain,
    "undrain": undrain,
    "rotate": rotate,
    "verify": _verify,
    "token": _tokens,
}
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Wording:
    """How a deed is asked: title, word for yes, question (with `{names}` and `{left}`), what is said after it, and why there is
    nobody to do it to.
    """

    title: str
    yes: str
    what: str
    done: str
    no_use: str


@dataclass(frozen=True, slots=True)
class Wish:
    """An action on devices before it is confirmed: the question with its title, the word for yes, and what is said after it."""

    deed: Deed
    devices: tuple[str, ...]
    title: str
    what: str
    yes: str
    done: str

    @property
    def needs_reason(self) -> bool:
        """Whether the audit log asks why: it does where rounds lose a device, or get it back."""
        return self.deed not in {"rotate", "verify"}

    def operation(self, why: str, given: list[Token]) -> Callable[[Site], AsyncIterator[Progress]]:
        """What is done where the answer is yes; tokens that are made are added to `given`, and told to nobody else."""
        if not self.needs_reason:
            return partial(ACTS[self.deed], names=self.devices)
        if self.deed == "token":
            return partial(ACTS[self.deed], devices=self.devices, why=why, given=given)
        return partial(ACTS[self.deed], devices=self.devices, why=why)


def wish(deed: Deed, devices: Sequence[str], state: FederationState) -> Wish | None:
    """The action on those of the devices that it changes anything for; None where there are none."""
    out = {name for name, row in state.devices.items() if row.state == "quarantined"}
    barred = {name for name, row in state.devices.items() if row.standing == "quarantined"}
    drained = {name for name, row in state.devices.items() if row.standing == "drained"}
    concerned: Mapping[Deed, set[str]] = {"release": out, "undrain": drained, "drain": set(state.devices) - barred - drained}
    chosen = tuple(name for name in devices if name in concerned.get(deed, set(state.devices) - barred))
    if not chosen:
        return None
    asked, names = _WORDS[deed], _listed(chosen)
    what = asked.what.format(names=names, left=_left(state, out | drained | set(chosen)))
    return Wish(deed, chosen, asked.title, what, asked.yes, f"{asked.done}: {names}")


def nothing(deed: Deed, devices: Sequence[str]) -> str:
    """Why there is nothing to ask."""
    return f"{_listed(devices)}: {_WORDS[deed].no_use}" if devices else "this row is about no device"


def _left(state: FederationState, out: set[str]) -> str:
    """How many devices may train then, and whether that is enough."""
    members = [row for row in state.devices.values() if row.state != "removed"]
    left = f"{sum(row.name not in out for row in members)} of {len(members)} devices are left"
    if state.run is None or not state.run.quorum:
        return left
    enough = sum(row.name not in out for row in members) >= state.run.quorum
    return f"{left}, a round needs {state.run.quorum}" + ("" if enough else ":\n  too few, the run will end")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


_CUT = """\
{names}

· certificates are revoked, and live connections end now
· this run and later ones leave them out:
  {left}
· their own firewalls let the operator's SSH in and
  nothing else; their services stop
· ledger, data and evidence stay; R takes them back"""
_DRAINED = """\
{names}

· they finish the round that they are in; this run and later
  ones ask them no more:
  {left}
· nothing on them changes; U has rounds ask them again"""
_UNDRAINED = """\
{names}

· rounds ask them again, from the next one on"""
_ROTATED = """\
{names}

· new keys are made on the devices, new certificates signed here
· services take them up one after the other; a round that is
  going on goes on"""
_VERIFIED = """\
{names}

· every path is tried from there, as each of the services' users,
  and from the other hosts into it
· the signed matrix is kept here and told to the journal, be it
  good or bad; nothing on the hosts is changed"""
_LET_IN = """\
{names}

· whoever shows the token there within an hour gets that
  device's certificate, once; an older token ends
· it is shown to you once, and to nobody else: the
  coordinator learns its hash
· it is for a device that SSH does not reach; for others
  c is enough"""
_RELEASED = """\
{names}

· new keys and certificates are made on the devices
· firewall and services are as site.yaml says, and proven
· rounds ask them again; what the policy held against
  them is forgotten
· spent ε stays spent"""

_WORDS: Mapping[Deed, Wording] = {
    "quarantine": Wording("Quarantine", "Quarantine", _CUT, "cut off", "in quarantine already"),
    "release": Wording("Release", "Release", _RELEASED, "back", "not in quarantine"),
    "drain": Wording("Drain", "Drain", _DRAINED, "drained", "in no round already"),
    "undrain": Wording("Undrain", "Undrain", _UNDRAINED, "back", "not drained"),
    "rotate": Wording("Rotate", "Rotate", _ROTATED, "new certificates", "in quarantine, R makes new ones"),
    "token": Wording("Token", "Give one", _LET_IN, "may come in", "in quarantine, R takes it back"),
    "verify": Wording("Verify isolation", "Verify", _VERIFIED, "proven again", "in quarantine, and not probed"),
}
