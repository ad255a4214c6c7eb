"""site.yaml's `observability`: what watches the federation beside the console. Nothing of it runs where it is not asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, StringConstraints

from edgefl.site.section import Model

Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\s][^\r\n]*$")]
Mail = Annotated[str, StringConstraints(pattern=r"^[^@\s,]+@[^@\s,]+$")]
Kind = Literal["slack", "email", "webhook"]


class Slack(Model):
    """A channel of Slack, or of what speaks as Slack does (Mattermost, Rocket.Chat)."""

    channel: Line
    """The channel, e.g. `#federation`."""
    webhook_file: Path
    """A file on this machine with the incoming webhook's address, which is a secret; relative to site.yaml."""


class Email(Model):
    """Messages by a mail relay."""

    to: Annotated[list[Mail], Field(min_length=1)]
    """Who gets them."""
    sender: Mail
    """Whom they come from."""
    relay: Annotated[str, StringConstraints(pattern=r"^\S+:[0-9]{1,5}$")]
    """The mail relay, e.g. `192.0.2.25:587`."""
    tls: bool = True
    """Whether the relay must speak TLS."""
    username: str = ""
    """Account at the relay; empty where it wants none."""
    password_file: Path | None = None
    """A file on this machine with the account's password; relative to site.yaml."""


class Webhook(Model):
    """Alertmanager's own JSON, posted to a service of yours."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")]
    """The service's address; what is secret belongs into `token_file`."""
    token_file: Path | None = None
    """A file on this machine with a bearer token for it; relative to site.yaml."""


class Observability(Model):
    """What watches the federation beside the console; nothing by default."""

    prometheus: bool = False
    """Prometheus, Alertmanager and node_exporter on the coordinator, on its loopback alone."""
    keep_days: PositiveInt = 15
    """How long Prometheus keeps what it read, in days."""
    accuracy_low: Annotated[float, Field(gt=0, lt=1)] | None = None
    """An accuracy that the global model should have passed: below it for ten minutes is an alert. None by default."""
    slack: Slack | None = None
    """Alerts go to a channel of Slack."""
    email: Email | None = None
    """Alerts go by e-mail."""
    webhook: Webhook | None = None
    """Alerts go to a service of yours."""

    @property
    def receivers(self) -> dict[Kind, Slack | Email | Webhook]:
        """Who is told of alerts, by kind."""
        all_kinds: dict[Kind, Slack | Email | Webhook | None] = {
            "slack": self.slack, "email": self.email, "webhook": self.webhook,
        }  # fmt: skip
        return {kind: receiver for kind, receiver in all_kinds.items() if receiver is not None}

    def secrets(self) -> Iterator[tuple[Kind, str, Path]]:
        """Every receiver's secret: its kind, the field that names the file, the file."""
        for kind, receiver in self.receivers.items():
            for field in ("webhook_file", "password_file", "token_file"):
                if (path := getattr(receiver, field, None)) is not None:
                    yield kind, field, path

    def at(self, root: Path) -> Observability:
        """The same with the secrets' files placed in `root`."""
        placed: dict[str, Model] = {}
        for kind, field, path in self.secrets():
            placed[kind] = self.receivers[kind].model_copy(update={field: root / path.expanduser()})
        return self.model_copy(update=placed)
