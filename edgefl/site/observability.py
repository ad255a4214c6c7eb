"""site.yaml's `observability`: what watches the federation beside the console. Nothing of it runs where it is not asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveInt, StringConstraints

from edgefl.site.host import Watcher
from edgefl.site.section import Model

SUBJECT = "prometheus"
"""Whom the certificate that reads /metrics and hosts is for; it is no host, and opens nothing else."""

Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\s][^\r\n]*$")]
Mail = Annotated[str, StringConstraints(pattern=r"^[^@\s,]+@[^@\s,]+$")]
Kind = Literal["slack", "email", "webhook"]
Export = Literal["traces", "mlflow", "notify"]
Topic = Literal["flag", "quarantine", "run", "budget", "drift"]


def _whole(address: str) -> str:
    if not urlsplit(address).hostname or urlsplit(address).port == 0:
        raise ValueError("it names no host, or no port")
    return address


Web = Annotated[str, StringConstraints(pattern=r"^https?://[^\s@/]+(/[^\s@]*)?$"), AfterValidator(_whole)]
"""An address without a name and a password in it: what is secret belongs into a file."""


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


class Traces(Model):
    """Each round as a trace, for a collector of OpenTelemetry's; `edgefl export traces` sends them from this machine."""

    endpoint: Web
    """Where the collector takes traces by OTLP over HTTP, e.g. `https://192.0.2.80:4318/v1/traces`."""
    headers_file: Path | None = None
    """A file on this machine with headers that the collector wants, one `name: value` a line; relative to site.yaml."""


class Mlflow(Model):
    """Each run in MLflow; `edgefl export mlflow` brings it there from this machine."""

    server: Web
    """The tracking server's address, e.g. `https://192.0.2.80:5000`."""
    experiment: Line | None = None
    """Which experiment of the server the runs are in; the site's name by default."""
    username: str = ""
    """Account at the server; empty where it wants none, or a token."""
    secret_file: Path | None = None
    """A file on this machine with the account's password, or with a token; relative to site.yaml."""


class Notify(Model):
    """Messages to your own channels, from the machine where `edgefl notify` runs."""

    channels_file: Path
    """A file on this machine with the channels' addresses, which are secrets, one a line by Apprise; relative to site.yaml."""
    about: Annotated[list[Topic], Field(min_length=1, default_factory=lambda: list(get_args(Topic)))]
    """What is told: flagged updates, devices set aside, ends of runs, budgets near or at their end, walls that were changed."""


class Observability(Model):
    """What watches the federation beside the console; nothing by default."""

    prometheus: bool = False
    """Prometheus, Alertmanager and node_exporter on the coordinator, or on `host`; they listen on the loopback alone."""
    host: Watcher | None = None
    """A host of their own, e.g. `{name: watch, address: 192.0.2.9}`; none means the coordinator. It reads metrics over mutual
    TLS, reaches nothing else, and nobody calls it."""
    devices: bool = False
    """node_exporter on every device, too, read by that Prometheus over mutual TLS: one path into each device, and no other."""
    keep_days: PositiveInt = 15
    """How long Prometheus keeps what it read, in days."""
    logs_mb: Annotated[int, Field(ge=16, le=65536)] = 256
    """Disk that journald may take on each host, in MiB, for whatever writes there; the oldest goes first."""
    accuracy_low: Annotated[float, Field(gt=0, lt=1)] | None = None
    """An accuracy that the global model should have passed: below it for ten minutes is an alert. None by default."""
    slack: Slack | None = None
    """Alerts go to a channel of Slack."""
    email: Email | None = None
    """Alerts go by e-mail."""
    webhook: Webhook | None = None
    """Alerts go to a service of yours."""
    traces: Traces | None = None
    """Rounds go to a collector of OpenTelemetry's as traces, when `edgefl export traces` is run."""
    mlflow: Mlflow | None = None
    """Runs go to MLflow, when `edgefl export mlflow` is run."""
    notify: Notify | None = None
    """Messages about what the journal says, without Prometheus and Alertmanager, when `edgefl notify` is run."""

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

    def kept_here(self) -> Iterator[tuple[Export, str, Path]]:
        """Every secret of what this machine alone exports: whose, the field that names the file, the file. No host gets one."""
        if self.traces is not None and self.traces.headers_file is not None:
            yield "traces", "headers_file", self.traces.headers_file
        if self.mlflow is not None and self.mlflow.secret_file is not None:
            yield "mlflow", "secret_file", self.mlflow.secret_file
        if self.notify is not None:
            yield "notify", "channels_file", self.notify.channels_file

    def at(self, root: Path) -> Observability:
        """The same with the secrets' files placed in `root`."""
        placed: dict[str, Model] = {}
        for section, field, path in (*self.secrets(), *self.kept_here()):
            placed[section] = getattr(self, section).model_copy(update={field: root / path.expanduser()})
        if self.host is not None and self.host.ssh_key is not None:
            placed["host"] = self.host.model_copy(update={"ssh_key": root / self.host.ssh_key.expanduser()})
        return self.model_copy(update=placed)
