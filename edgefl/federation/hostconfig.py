"""What a host knows about its site: /etc/edgefl/host.json, and where its services keep things."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from edgefl import layout
from edgefl.errors import EdgeflError
from edgefl.site.model import Aggregation, Compression, Models, Privacy, Run, Secure, Task

CONFIG_VARIABLE = "EDGEFL_CONFIG"
"""Environment variable with the configuration's directory, where it is not /etc/edgefl."""
STATE_VARIABLE = "EDGEFL_STATE"
"""Environment variable with the state's directory, where it is not /var/lib/edgefl."""

MEMBERS = "members.json"
"""Beside host.json: the site's devices, and on the coordinator its hash. It changes while services run, as host.json does not."""
APP_VARIABLE = "EDGEFL_APP"
"""Environment variable of a task's process with the directory that the app was unpacked to."""


class HostConfigInvalid(EdgeflError):
    """host.json is missing or does not say what a host must know."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where one host's services find and keep things; the defaults are those of `edgefl.layout`."""

    config: Path = layout.CONFIG
    state: Path = layout.STATE

    @classmethod
    def from_environment(cls) -> Places:
        """The places that the service was started with; its children inherit them."""
        return cls(
            Path(os.environ.get(CONFIG_VARIABLE, layout.CONFIG)),
            Path(os.environ.get(STATE_VARIABLE, layout.STATE)),
        )

    def as_environment(self) -> dict[str, str]:
        """What `from_environment` reads."""
        return {CONFIG_VARIABLE: str(self.config), STATE_VARIABLE: str(self.state)}

    @property
    def host(self) -> Path:
        """What the site says to this host."""
        return self.config / "host.json"

    @property
    def members(self) -> Path:
        """Who belongs to the site."""
        return self.host.with_name(MEMBERS)

    @property
    def identity(self) -> Path:
        """Keys and certificates."""
        return self.config / layout.IDENTITY.relative_to(layout.CONFIG)

    @property
    def authority(self) -> Path:
        """The site's root and issuing certificates."""
        return self.identity / "ca.crt"

    @property
    def signing(self) -> Path:
        """The key by which a device signs to others, and what it checks theirs by."""
        return self.config / layout.SIGNING.relative_to(layout.CONFIG)

    @property
    def renewal(self) -> Path:
        """The coordinator's authority that renews certificates."""
        return self.config / layout.RENEWAL.relative_to(layout.CONFIG)

    @property
    def secret(self) -> Path:
        """What a SuperExec proves itself with to its SuperLink or SuperNode."""
        return self.config / "superexec.secret"

    @property
    def journal(self) -> Path:
        """The event log."""
        return self.state / layout.JOURNAL.relative_to(layout.STATE)

    @property
    def models(self) -> Path:
        """Every global model with its record."""
        return self.state / layout.MODELS.relative_to(layout.STATE)

    @property
    def ledger(self) -> Path:
        """The device's record of epsilon spent."""
        return self.state / layout.LEDGER.relative_to(layout.STATE)

    @property
    def feedback(self) -> Path:
        """What compression has left to send of this device's updates."""
        return self.state / layout.FEEDBACK.relative_to(layout.STATE)

    @property
    def held(self) -> Path:
        """The global model that the device holds."""
        return self.state / layout.HELD.relative_to(layout.STATE)

    @property
    def secure(self) -> Path:
        """The secrets of this device's masks, a file for each round under way."""
        return self.state / layout.SECURE.relative_to(layout.STATE)

    @property
    def personal(self) -> Path:
        """The layers that this device trains for itself alone."""
        return self.state / layout.PERSONAL.relative_to(layout.STATE)

    @property
    def answer(self) -> Path:
        """The device's last update, for a coordinator that died and asks for the same round again."""
        return self.state / layout.ANSWER.relative_to(layout.STATE)

    @property
    def nodes(self) -> Path:
        """Flower's node ids with the devices' names, as the registration left them."""
        return self.state / "nodes.json"


class CoordinatorAddress(BaseModel):
    """Where a device finds its coordinator."""

    model_config = ConfigDict(frozen=True)

    name: str
    address: str
    port: int = layout.FLEET_PORT


def _filled(section: Any) -> Any:
    """A section that is left out, or null, means its defaults."""
    return {} if section is None else section


class HostConfig(BaseModel):
    """One host's part of the site, as the roles rendered it. Holds no secret."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    site: str
    site_hash: str = ""
    name: str
    role: Literal["coordinator", "device"]
    coordinator: CoordinatorAddress
    task: Annotated[Task, BeforeValidator(_filled)] = Task()
    run: Annotated[Run, BeforeValidator(_filled)] = Run()
    privacy: Annotated[Privacy, BeforeValidator(_filled)] = Privacy()
    aggregation: Annotated[Aggregation, BeforeValidator(_filled)] = Aggregation()
    compression: Annotated[Compression, BeforeValidator(_filled)] = Compression()
    secure: Annotated[Secure, BeforeValidator(_filled)] = Secure()
    models: Annotated[Models, BeforeValidator(_filled)] = Models()
    fab_sha256: str = ""
    """The one Flower app that this host executes; empty means none."""
    fab_also: list[str] = Field(default_factory=list)
    """While a new version comes to the fleet, the other version's: the run that is going began with it."""
    data: Path = layout.DATA
    devices: list[str] = Field(default_factory=list)
    """The site's devices, in its order."""
    epsilon_limit: float | None = None
    """This device's own limit; the smaller of it and the site's counts."""
    epsilon_per_run: float | None = None
    """What a run may cost this device; the smaller of it and the site's counts."""

    @property
    def apps(self) -> tuple[str, ...]:
        """The Flower apps that this host executes, by hash."""
        return tuple(app for app in (self.fab_sha256, *self.fab_also) if app)

    @classmethod
    def load(cls, path: Path) -> HostConfig:
        """Read host.json, and members.json beside it where there is one; HostConfigInvalid says what is wrong with them."""
        try:
            said = json.loads(path.read_text())
            members = path.with_name(MEMBERS)
            return cls.model_validate({**said, **json.loads(members.read_text())} if members.exists() else said)
        except OSError as error:
            raise HostConfigInvalid(f"{path} cannot be read: {error.strerror}", hint="edgefl up") from error
        except json.JSONDecodeError as error:
            raise HostConfigInvalid(f"{path} is not JSON: {error}", hint="edgefl up") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise HostConfigInvalid(f"{path}: {where}: {first['msg']}", hint="edgefl up") from error
