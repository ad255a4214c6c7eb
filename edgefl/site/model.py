"""site.yaml as typed values: one federation's desired state, whole and validated.

The docstring under each field is its documentation everywhere: the scaffold's comments, the JSON schema, the reference page.
"""

from __future__ import annotations

from ipaddress import IPv4Interface
from math import ceil
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from edgefl.site.host import HostBase, Name, Role, Watcher
from edgefl.site.host import Limits as Limits  # noqa: PLC0414  # as below
from edgefl.site.isolation import Isolation as Isolation  # noqa: PLC0414  # as below
from edgefl.site.observability import Observability as Observability  # noqa: PLC0414  # as below
from edgefl.site.privacy import Privacy as Privacy  # noqa: PLC0414  # who imports the site's sections, imports them from here
from edgefl.site.robustness import Rule
from edgefl.site.section import Model
from edgefl.site.upgrade import Upgrade as Upgrade  # noqa: PLC0414  # as above

Fraction = Annotated[float, Field(gt=0, le=1)]
CountOrNone = Annotated[
    PositiveInt | None,
    BeforeValidator(lambda said: None if said == "none" else said, json_schema_input_type=PositiveInt | Literal["none"]),
]
"""A count that has a default, so that leaving it out cannot mean none: the word does."""


class Coordinator(HostBase):
    """The host that runs the SuperLink, the gate and the monitor."""

    role: ClassVar[Role] = "coordinator"
    name: Name = "coordinator"
    """The coordinator's name."""


class Device(HostBase):
    """An edge host that trains beside its private data."""

    role: ClassVar[Role] = "device"
    data: Path | None = None
    """`static`: the data's directory on the device; `lab`: a local directory copied to the host when it is created."""
    preloaded: bool = True
    """`lab`: the host's image already holds the bundle; false exercises the push that a real device gets."""
    epsilon_limit: PositiveFloat | None = None
    """This device's own epsilon limit; none means the site's. The device enforces the smaller of the two."""
    epsilon_per_run: PositiveFloat | None = None
    """What one run may cost this device; none means the site's. The smaller of the two counts: it trains with more noise."""


class Infrastructure(Model):
    """Where the hosts come from."""

    module: Literal["lab", "static", "own"] = "lab"
    """`lab` boots hosts on this machine; `static` adopts hosts that exist, by address; `own` asks a Terraform module of yours."""
    source: Path | None = None
    """`own`: the module's directory; it takes `devices` and gives `inventory`, as terraform/README.md says."""
    engine: Literal["auto", "terraform", "tofu", "embedded"] = "auto"
    """Which Terraform: `auto` takes terraform or tofu from PATH, else the embedded one."""
    network: IPv4Interface = IPv4Interface("10.77.0.1/24")
    """`lab`: the private network; this address is the operator's."""


class Task(Model):
    """What is trained."""

    module: str = "edgefl.federation.tasks.images"
    """A Python module (`package.name`) or a file (`./task.py`, relative to site.yaml) that holds the task."""
    parameters: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Passed to the task as they are, e.g. `learning_rate`, `batch_size`, `local_epochs`; `proximal_mu` above 0 is FedProx."""
    personal_layers: list[str] = Field(default_factory=list)
    """Layers that each device trains for itself and never sends (FedPer), by name or glob, e.g. `head.*`; none by default."""


class Selection(Model):
    """Which devices a round asks."""

    strategy: Literal["all", "random", "performance", "resources"] = "all"
    """`performance` prefers a high loss and short rounds, `resources` whoever will hold the deadline; both also explore."""
    share: Fraction = 0.5
    """Share of the devices that are there that a round asks; `all` asks every one."""
    exploration: Annotated[float, Field(ge=0, le=1)] = 0.2
    """`performance`, `resources`: share of a round's places for whoever was not asked for longest, so that none starves."""

    def asked(self, devices: int, least: int = 1) -> int:
        """How many of so many devices a round asks; `least` of them at any rate, if there are."""
        if self.strategy == "all":
            return devices
        return min(devices, max(1, least, ceil(self.share * devices - 1e-9)))


class Run(Model):
    """One training run."""

    rounds: PositiveInt = 10
    """Rounds to train."""
    quorum: Fraction = 0.7
    """Share of the devices that a round asks that must answer for it to count."""
    deadline_s: PositiveFloat = 120.0
    """A round's replies are awaited this long, in seconds; later ones are dropped."""
    seed: int = 7
    """Seed of the initial model; the noise of differential privacy is never seeded."""
    mode: Literal["synchronous", "asynchronous"] = "synchronous"
    """`asynchronous` ends a round as soon as the quorum replied, and gives each device the newest model when it is ready."""
    max_staleness: Annotated[int, Field(ge=0)] = 4
    """`asynchronous`: an update that began with a model older than so many is dropped."""
    staleness_exponent: Annotated[float, Field(ge=0)] = 0.5
    """`asynchronous`: an update that is s models old weighs (1 + s) to the power of minus this."""
    selection: Selection = Selection()
    """Whom a round asks. A `share` above what the quorum needs makes up for devices that are late or gone."""

    def needed(self, devices: int) -> int:
        """How many updates make a round of so many devices."""
        return max(1, round(self.quorum * self.selection.asked(devices)))


class Policy(Model):
    """When a device that is flagged again and again is suspect, or set aside, and how it comes back."""

    window: Annotated[int, Field(ge=3, le=50)] = 10
    """Rounds that are looked back on, of those that a device took part in."""
    suspect_after: PositiveInt = 2
    """Flagged rounds of the window after which a device is suspect: one bad round brands nobody."""
    clear_after: PositiveInt = 5
    """Rounds in a row without a flag that clear a suspect."""
    quarantine_after: CountOrNone = 7
    """Rounds of the window with what no honest device sends, after which a suspect is left out; `none` leaves out nobody."""
    quarantine_rounds: PositiveInt = 20
    """Rounds that a device is left out, twice as many each time; then it is back on probation."""


class ServerOptimiser(Model):
    """What the coordinator makes of a round's robust aggregate, which it takes for a gradient (Reddi et al., 2020)."""

    name: Literal["none", "adam", "yogi", "momentum"] = "none"
    """`none` moves the model by the aggregate; `adam` and `yogi` adapt each value's step, `momentum` remembers directions."""
    learning_rate: PositiveFloat | None = None
    """Length of a step; none means 0.1 for `adam`, 0.01 for `yogi` and 1 for `momentum`."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the past in the direction; 0 with `momentum` is a plain step of `learning_rate` times the aggregate."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """`adam`, `yogi`: share of the past in the squares that a step is divided by."""
    tau: PositiveFloat = 1e-3
    """`adam`, `yogi`: keeps steps bounded where updates are tiny; smaller adapts more."""


class Aggregation(Model):
    """How updates become the next global model."""

    rule: Rule = "guard"
    """`guard` scores every update against its peers, drops the ones that stand out and averages the rest robustly."""
    byzantine: Annotated[float, Field(ge=0, lt=0.5)] = 0.3
    """Largest share of devices that may be malicious; rules that are no defence by themselves want 0."""
    mixing: Literal["none", "nearest"] = "none"
    """`nearest` averages every update with its nearest neighbours before the rule (the guard does so by itself)."""
    policy: Policy = Policy()
    """When a device is set aside."""
    optimiser: ServerOptimiser = ServerOptimiser()
    """How far, and in which direction, the aggregate moves the model."""


class Compression(Model):
    """How small updates are made before they leave a device; what is left out is sent with a later round's."""

    mode: Literal["none", "quantised", "top-k"] = "none"
    """`quantised` sends every value in `bits` bits; `top-k` only the share `keep` of largest values, for slow links."""
    bits: Annotated[int, Field(ge=1, le=16)] = 8
    """Bits of each value that is sent: 8 loses next to nothing."""
    keep: Fraction = 0.05
    """`top-k`: share of the values that one round sends."""
    down: Literal["none", "cached", "quantised"] = "none"
    """To devices: the whole model each time (`none`), only once where it is held already (`cached`), or its quantised change."""
    down_bits: Annotated[int, Field(ge=2, le=16)] = 8
    """`down: quantised`: bits of each value of a change."""


class Secure(Model):
    """Whether the coordinator sees single updates, or their sums alone."""

    mode: Literal["none", "masked", "homomorphic"] = "none"
    """`masked` hides each update under masks that cancel in the sum; then nothing can judge or flag a single device.
    `homomorphic` adds ciphertexts, of 8 times the bytes, whose key every device holds and the coordinator does not.
    """
    threshold: Annotated[float, Field(gt=0.5, le=1)] = 0.67
    """Share of the devices of a sum that must stay until its end; with fewer the sum is lost, never wrong."""
    group_size: Annotated[int, Field(ge=0, le=256)] = 0
    """Devices whose updates are summed together; robust rules then judge the groups' means. 0 sums all devices."""
    clip: PositiveFloat = 10.0
    """Largest L2 norm of one device's update; a longer one is shortened."""
    bits: Literal[8, 32] = 32
    """Bits of each value that is sent: 32 as plain updates; 8 needs 3 to 4 bits more for the sum, and loses next to nothing."""
    keep: Fraction = 1.0
    """Share of the values that one round sends; the coordinator says which, the same for all devices."""
    least_records: PositiveInt = 32
    """A device with fewer records takes no part: a sum of updates that a few records made tells too much of them."""

    def needed(self, members: int) -> int:
        """How many of a sum's devices must stay until its end: more than half, whatever the share."""
        return max(members // 2 + 1, ceil(self.threshold * members - 1e-9))

    def sums(self, devices: int) -> int:
        """How many groups so many devices make; the last ones may be larger than `group_size`."""
        return max(1, devices // self.group_size) if self.group_size else 1


class Models(Model):
    """What the coordinator keeps of the models that it made."""

    keep_mb: PositiveInt = 2048
    """Disk for the rounds' models, in MiB: older ones go first, never the newest, the best, or what was exported or chosen."""


class Certificates(Model):
    """Lifetimes of what the site's own authority issues."""

    leaf_hours: Annotated[int, Field(ge=1, le=24 * 90)] = 24
    """Life of a host's certificate, in hours."""
    issuing_days: Annotated[int, Field(ge=1, le=3650)] = 365
    """Life of the issuing authority, in days."""
    renewal_days: Annotated[int, Field(ge=2, le=365)] = 30
    """Life of the coordinator's authority, in days: so long devices renew themselves while no operator runs `edgefl up`."""
    signer_days: Annotated[int, Field(ge=1, le=365)] = 90
    """Life, in days, of the key by which a device signs for secure sums; only `edgefl up` or `certs rotate` renews it."""
    watching_days: Annotated[int, Field(ge=1, le=90)] = 30
    """Life, in days, of what Prometheus shows where it reads, and devices to it; `edgefl up` or `certs rotate` renews it."""
    root_days: Annotated[int, Field(ge=30, le=7300)] = 3650
    """Life of the root, in days."""


class Preflight(Model):
    """What happens when a host is not fit."""

    on_failure: Literal["stop", "continue"] = "stop"
    """`stop` changes nothing on any host; `continue` goes on without the unfit devices while the quorum holds."""
    max_clock_skew_s: PositiveFloat = 5.0
    """Largest difference to the operator's clock, in seconds; Flower refuses more than 8."""
    min_disk_mb: PositiveInt = 2048
    """Free space needed on /opt, /var and /tmp, in MiB."""
    min_memory_mb: PositiveInt = 512
    """Memory needed, in MiB."""


class Runtime(Model):
    """What is installed on hosts."""

    torch: str = "pypi"
    """Where torch comes from: `pypi`, the URL of another index (e.g. one with CPU builds), or a wheel's path."""
    torch_version: str = "2.13.0"
    """The torch that every host of the site runs."""
    python: str = "3.11"
    """The hosts' Python."""
    architectures: list[Literal["x86_64", "aarch64", "armv7l"]] = Field(default_factory=list)
    """The hosts' processors, as `uname -m` says them: the bundle carries wheels for each. None means this machine's."""


class Site(Model):
    """One federation's desired state."""

    name: Name
    """The federation's name; it stands in every certificate."""
    coordinator: Coordinator = Coordinator()
    """The host that coordinates."""
    infrastructure: Infrastructure = Infrastructure()
    """Where the hosts come from."""
    devices: list[Device] = Field(default_factory=list)
    """The devices that train; with `own` they may be left to the module, which then says which there are."""
    task: Task = Task()
    """What is trained."""
    run: Run = Run()
    """How long, and with how many."""
    privacy: Privacy = Privacy()
    """What no run may exceed."""
    aggregation: Aggregation = Aggregation()
    """How updates become a model."""
    compression: Compression = Compression()
    """How updates travel."""
    secure: Secure = Secure()
    """What the coordinator sees."""
    models: Models = Models()
    """How much of the past is kept."""
    isolation: Isolation = Isolation()
    """What each role may reach."""
    certificates: Certificates = Certificates()
    """How long identities live."""
    preflight: Preflight = Preflight()
    """When a host is fit."""
    runtime: Runtime = Runtime()
    """What hosts run."""
    upgrade: Upgrade = Upgrade()
    """How a new version comes to them."""
    observability: Observability = Observability()
    """What else watches."""

    _root: Path = Path()
    _made: bool = False

    @model_validator(mode="before")
    @classmethod
    def _no_null_sections(cls, data: Any) -> Any:
        """An empty section (`privacy:` with nothing under it) means its defaults."""
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data

    @property
    def root(self) -> Path:
        """The directory that site.yaml lies in."""
        return self._root

    def at(self, root: Path) -> Site:
        """The same site lying in `root`: relative paths of files on this machine become absolute."""

        def local(host: Coordinator | Device) -> dict[str, Any]:
            update: dict[str, Any] = {}
            if host.ssh_key is not None:
                update["ssh_key"] = root / host.ssh_key.expanduser()
            if isinstance(host, Device) and host.data is not None and self.infrastructure.module == "lab":
                update["data"] = root / host.data.expanduser()
            return update

        devices = [device.model_copy(update=local(device)) for device in self.devices]
        coordinator = self.coordinator.model_copy(update=local(self.coordinator))
        infrastructure = self.infrastructure
        if infrastructure.source is not None:
            infrastructure = infrastructure.model_copy(update={"source": root / infrastructure.source.expanduser()})
        sections = {"coordinator": coordinator, "devices": devices, "infrastructure": infrastructure}
        sections["observability"] = self.observability.at(root)
        placed = self.model_copy(update=sections)
        placed._root = root
        return placed

    @property
    def asks_module(self) -> bool:
        """Whether the operator's Terraform module says which devices there are, since site.yaml names none."""
        return self.infrastructure.module == "own" and (self._made or not self.devices)

    def having(self, devices: list[Device]) -> Site:
        """The same site with the devices that its module made."""
        site = self.model_copy(update={"devices": devices})
        site._made = True
        return site

    @property
    def unwatched(self) -> Site:
        """The same site with nothing that watches beside the console."""
        nothing = {"prometheus": False, "devices": False, "host": None}
        return self.model_copy(update={"observability": self.observability.model_copy(update=nothing)})

    @property
    def state(self) -> Path:
        """The site's working state, `.edgefl/` beside site.yaml."""
        return self._root / ".edgefl"

    @property
    def hosts(self) -> tuple[Coordinator | Device | Watcher, ...]:
        """The coordinator, then the devices in the site's order, then the host that watches, where there is one."""
        return (self.coordinator, *self.devices, *([self.watcher] if self.watcher else []))

    @property
    def watcher(self) -> Watcher | None:
        """The host that watches; None where the coordinator does, or nobody."""
        return self.observability.host

    @property
    def quorum(self) -> int:
        """How many devices must answer for a round to count."""
        return self.run.needed(len(self.devices))

    def device(self, name: str) -> Device:
        """The device of that name; KeyError when there is none."""
        for device in self.devices:
            if device.name == name:
                return device
        raise KeyError(name)
