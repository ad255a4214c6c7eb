"""What must hold between the values of a site: pure rules, each yielding the location of what is wrong and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from edgefl.site import allowances, modes
from edgefl.site.addresses import known, room, tunnelled
from edgefl.site.host import Watcher
from edgefl.site.model import Coordinator, Device, Site
from edgefl.site.modes import Mistake
from edgefl.site.observability import SUBJECT
from edgefl.site.robustness import outvoted, unfit
from edgefl.site.section import Address
from edgefl.site.source import Location

MEANINGLESS = 30.0
"""An epsilon above this bounds nothing: e^30 is no odds (federation/privacy/accounting.py has the same limit)."""


def mistakes(site: Site, doubtful: Collection[str] = ()) -> Iterator[Mistake]:
    """Everything that is wrong between values that are each right by themselves.

    doubtful: sections that hold wrong values; what follows from them is not said, it would be noise.
    """
    if not site.devices:
        doubtful = {*doubtful, _NUMBER}
    for rule, sections in RULES:
        if not set(sections) & set(doubtful):
            yield from rule(site)


def missing_files(site: Site) -> Iterator[Mistake]:
    """Files and directories of this machine that the site names and that are not there. `site` has been placed."""
    if site.task.module.endswith(".py") and not (site.root / site.task.module).is_file():
        yield ("task", "module"), f"there is no file {site.root / site.task.module}", "a path relative to site.yaml"
    source = site.infrastructure.source
    if source is not None and not any(source.glob("*.tf")):
        yield ("infrastructure", "source"), f"there is no Terraform module in {source}", "a directory with .tf files"
    for kind, field, path in (*site.observability.secrets(), *site.observability.kept_here()):
        if not path.is_file():
            yield (
                ("observability", kind, field),
                f"there is no file {path}",
                "a file with the secret alone, for you to read alone",
            )
    for location, host in _hosts(site):
        if host.ssh_key is not None and not host.ssh_key.is_file():
            yield (*location, "ssh_key"), f"there is no key {host.ssh_key}", "leave it out to use the agent's keys"
        if site.infrastructure.module == "lab" and isinstance(host, Device) and host.data and not host.data.is_dir():
            yield (*location, "data"), f"there is no directory {host.data}", "a directory on this machine, copied to the host"


def some_devices(site: Site) -> Iterator[Mistake]:
    """A site has devices, of its own or its module's."""
    if not site.devices and not site.asks_module:
        yield ("devices",), "it names no devices", "name at least one; only with `module: own` may the module say which there are"


def names(site: Site) -> Iterator[Mistake]:
    """One name, one host: it is the host's identity."""
    seen: set[str] = set()
    for location, host in _hosts(site):
        if host.name in seen:
            whose = "the coordinator's" if host.name == site.coordinator.name else "another device's"
            yield (*location, "name"), f"{host.name} is {whose} name already", "every host needs a name of its own"
        seen.add(host.name)


def addresses(site: Site) -> Iterator[Mistake]:
    """One address and port, one host."""
    seen: dict[object, str] = {}
    for location, host in _hosts(site):
        if host.address is None:
            continue
        owner = seen.setdefault(host.address, host.name)
        if owner != host.name:
            yield (*location, "address"), f"{host.address} is {owner}'s address already", "every host needs its own"


def lab_network(site: Site) -> Iterator[Mistake]:
    """Lab addresses lie in the lab's network, and everyone fits into it."""
    if site.infrastructure.module != "lab":
        return
    interface = site.infrastructure.network
    network = interface.network
    if len(site.hosts) > room(site):
        what = f"{network} holds {room(site)} hosts beside the operator; the site has {len(site.hosts)}"
        yield ("infrastructure", "network"), what, "a larger network, e.g. 10.77.0.1/24"
    elif interface.ip in (network.network_address, network.broadcast_address):
        what = f"{interface.ip} is no host's address in {network}"
        yield ("infrastructure", "network"), what, f"e.g. {network.network_address + 1}/{network.prefixlen}"
    for location, host in _hosts(site):
        address, place = host.address, (*location, "address")
        if address is None:
            continue
        if not isinstance(address, IPv4Address) or address not in network:
            yield place, f"{address} lies outside the lab's network {network}", "leave it out: the lab chooses one"
        elif address == interface.ip:
            yield place, f"{address} is the operator's own address in the lab", "leave it out: the lab chooses one"
        elif address in (network.network_address, network.broadcast_address):
            yield place, f"{address} is no host's address in {network}", "leave it out: the lab chooses one"


def static_hosts(site: Site) -> Iterator[Mistake]:
    """Hosts that exist have an address, and the operator has one that their firewalls let in."""
    if site.infrastructure.module == "lab":
        return
    for location, host in _hosts(site):
        if host.address is None and site.infrastructure.module == "static":
            what = f"{host.name} has no address; `static` adopts hosts by address"
            yield location, what, "add e.g. address: 192.0.2.11"
        if isinstance(host, Device) and host.data is not None and not host.data.is_absolute():
            yield (*location, "data"), f"{host.data} must be an absolute path on {host.name}", "e.g. /srv/edgefl/data"
    if not site.isolation.operator_addresses:
        what = "real hosts need the operator's address, or their firewalls shut you out"
        yield ("isolation", "operator_addresses"), what, "add under isolation: operator_addresses: [192.0.2.1]"


def tunnel(site: Site) -> Iterator[Mistake]:
    """An address in the tunnel is nobody else's: what leads there would be taken away from its owner."""
    others: dict[Address, str] = {address: f"{name}'s own" for name, address in known(site).items()}
    others |= dict.fromkeys(site.isolation.operator_addresses, "the operator's")
    others |= dict.fromkeys((*site.isolation.dns, *site.isolation.time_servers), "one that hosts may ask")
    for name, address in tunnelled(site).items():
        opened = next((str(one) for _, one in allowances.openings(site) if address in one.address), "")
        if owner := others.get(address) or (opened and f"allowed as {opened}"):
            what = f"{address}, which {name} would have in the tunnel, is {owner}"
            yield ("isolation", "tunnel"), what, "tunnel: {network: 172.16.0.0/16}, or another private network that is free"


def own_module(site: Site) -> Iterator[Mistake]:
    """A module of the operator's own has a place, and nothing else has one."""
    own, source = site.infrastructure.module == "own", site.infrastructure.source
    if own and source is None:
        yield ("infrastructure", "module"), "`own` names no module", "add under infrastructure: source: ./terraform"
    elif not own and source is not None:
        yield ("infrastructure", "source"), f"{site.infrastructure.module} has a module already", "module: own, or leave it out"


def budgets(site: Site) -> Iterator[Mistake]:
    """A run that costs more than a device may ever spend can never end, and one that costs too much protects nobody."""
    if site.privacy.mode == "none":
        return
    run, limit = site.privacy.epsilon_per_run, site.privacy.epsilon_limit
    if run > MEANINGLESS:
        what = f"epsilon {run:g} a run protects nobody: the noise would be decorative"
        yield ("privacy", "epsilon_per_run"), what, f"at most {MEANINGLESS:g}, e.g. 4; or mode: none, and claim nothing"
    if limit < run:
        what = f"one run costs epsilon {run:g}, more than the limit of {limit:g} that a device may ever spend"
        yield ("privacy", "epsilon_limit"), what, f"raise it to at least {run:g}, or lower epsilon_per_run"
    for index, device in enumerate(site.devices if site.privacy.mode == "dp-sgd" else []):
        own, cost = min(limit, device.epsilon_limit or limit), min(run, device.epsilon_per_run or run)
        if own < cost and run <= limit:
            what = f"one run costs epsilon {cost:g}, more than {device.name}'s own limit of {own:g}"
            yield ("devices", index, "epsilon_limit"), what, f"raise it, or give {device.name} a smaller epsilon_per_run"


def robustness(site: Site) -> Iterator[Mistake]:
    """The rule is a defence where the site counts on one, and the smallest round that counts still outvotes the malicious."""
    rule, share, hidden = site.aggregation.rule, site.aggregation.byzantine, site.secure.mode != "none"
    if hidden and rule != "mean" and not site.secure.group_size:
        return  # modes.py: sums hide updates
    found = unfit(rule, share, site.aggregation.mixing)
    if not found and not hidden:  # of how many sums there are, modes.py knows
        # With a selection the share of malicious devices holds for a round on average, not in each.
        found = outvoted(rule, share, site.run.selection.asked(len(site.devices)), site.quorum)
    if found:
        which, what, works = found
        yield ("run" if which == "quorum" else "aggregation", which), what, works


def policy(site: Site) -> Iterator[Mistake]:
    """Thresholds that can be reached, the graver one later."""
    terms = site.aggregation.policy
    place = ("aggregation", "policy")
    gravest = terms.window + 1 if terms.quarantine_after is None else terms.quarantine_after
    if terms.quarantine_after is not None and terms.quarantine_after > terms.window:
        what = f"{terms.quarantine_after} flagged rounds do not fit into a window of {terms.window}"
        yield (*place, "quarantine_after"), what, f"at most {terms.window}"
    if terms.suspect_after >= gravest:
        what = f"{terms.suspect_after} flagged rounds make no suspect before {gravest} set a device aside"
        yield (*place, "suspect_after"), what, f"less than {gravest}"
    if terms.clear_after > terms.window:
        what = f"{terms.clear_after} rounds without a flag do not fit into a window of {terms.window}"
        yield (*place, "clear_after"), what, f"at most {terms.window}"


def receivers(site: Site) -> Iterator[Mistake]:
    """Who is to be told of alerts can be: something makes them, and a way leads out of the host where they are made."""
    watch, role = site.observability, (site.watcher or site.coordinator).role
    for kind in watch.receivers:
        if not watch.prometheus:
            yield ("observability", kind), "nothing makes alerts where `prometheus` is false", "prometheus: true, or leave it out"
        elif not any(one.by == "host" for one in site.isolation.of(role)):
            what = f"the {role}'s walls let none of its services out, so no alert arrives"
            hint = f"add its address under isolation: {role}: [{_WAYS_OUT[kind]}]"
            yield ("observability", kind), what, hint
    email = watch.email
    if email is not None and bool(email.username) != (email.password_file is not None):
        yield ("observability", "email"), "a relay's account has a name and a password", "both, or neither"


def exporters(site: Site) -> Iterator[Mistake]:
    """Who reads the devices is there, and has a way to them."""
    if not site.observability.devices:
        return
    if not site.observability.prometheus:
        what = "nothing reads devices where `prometheus` is false"
        yield ("observability", "devices"), what, "prometheus: true, or leave it out"
    if site.isolation.tunnel is not None:
        what = "devices behind a tunnel are not read: nobody calls them through it"
        yield ("observability", "devices"), what, "devices: false, or leave isolation: {tunnel: …} out"


def watcher(site: Site) -> Iterator[Mistake]:
    """A host that watches has something to watch with, and ways out that somebody on it can use."""
    for location, host in _hosts(site) if site.observability.prometheus else ():
        if host.name == SUBJECT:
            what = f"{SUBJECT} is whom the certificate is for that reads metrics, and that is no host"
            yield (*location, "name"), what, "another name, e.g. watch"
    if site.watcher is not None and not site.observability.prometheus:
        yield ("observability", "host"), "nothing runs there where `prometheus` is false", "prometheus: true, or leave it out"
    for index, one in enumerate(site.isolation.watcher):
        if site.watcher is None:
            what = "no host of the site watches alone, so nobody goes this way"
            yield (
                ("isolation", "watcher", index),
                what,
                "isolation: {coordinator: […]}, or a host under observability",
            )
        elif one.by != "host":
            yield ("isolation", "watcher", index), "no code of the task's runs on the host that watches", "by: host"


def exports(site: Site) -> Iterator[Mistake]:
    """What opens a collector or a server does not travel in the clear, and an account is whole."""
    watch = site.observability
    addresses = {"traces": watch.traces and watch.traces.endpoint, "mlflow": watch.mlflow and watch.mlflow.server}
    for kind, field, _ in watch.kept_here():
        address = addresses.get(kind)  # of other channels the address itself is the secret
        if address and not _is_private(address):
            what = f"`{field}` would travel in the clear to {address}"
            yield ("observability", kind), what, "https://…, or an address of this machine (127.0.0.1)"
    if watch.mlflow is not None and watch.mlflow.username and watch.mlflow.secret_file is None:
        yield ("observability", "mlflow"), "an account has a name and a password", "secret_file, or leave username out"


def _is_private(address: str) -> bool:
    """Whether nobody on the way reads what is sent there: TLS, or no way at all."""
    parts = urlsplit(address)
    return parts.scheme == "https" or parts.hostname in {"localhost", "127.0.0.1", "::1"}


_WAYS_OUT = {
    "slack": "{address: 192.0.2.80, port: 443, by: host}",
    "email": "{address: 192.0.2.25, port: 587, by: host}",
    "webhook": "{address: 192.0.2.80, port: 443, by: host}",
}


def _hosts(site: Site) -> Iterator[tuple[Location, Coordinator | Device | Watcher]]:
    yield ("coordinator",), site.coordinator
    yield from ((("devices", i), device) for i, device in enumerate(site.devices))
    if site.watcher is not None:
        yield ("observability", "host"), site.watcher


_NUMBER = "number of devices"
"""What rules that count devices take at its word; it is doubtful while there are none, or the module has not made them yet."""

RULES: tuple[tuple[Callable[[Site], Iterator[Mistake]], tuple[str, ...]], ...] = (
    (some_devices, ("devices",)),
    (names, ()),
    (addresses, ()),
    (lab_network, ("infrastructure",)),
    (static_hosts, ("infrastructure", "isolation")),
    (own_module, ("infrastructure",)),
    (allowances.destinations, ("isolation",)),
    (allowances.repetitions, ("isolation",)),
    (allowances.known_hosts, ("infrastructure", "isolation", "coordinator", "devices")),
    (tunnel, ("infrastructure", "isolation", "coordinator", "devices")),
    (budgets, ("privacy",)),
    (robustness, ("run", "aggregation", _NUMBER)),
    (modes.hidden_updates, ("aggregation", "secure", _NUMBER)),
    (modes.sizes_of_sums, ("secure", _NUMBER)),
    (modes.encrypted_sums, ("secure", _NUMBER)),
    (modes.small_sums, ("compression", "secure", _NUMBER)),
    (policy, ("aggregation",)),
    (modes.selected_sums, ("run", "secure", _NUMBER)),
    (modes.own_pace, ("run", "secure", _NUMBER)),
    (modes.whole_devices, ("privacy", "aggregation", "secure", "run", _NUMBER)),
    (receivers, ("observability", "isolation")),
    (exporters, ("observability", "isolation")),
    (watcher, ("observability", "isolation")),
    (exports, ("observability",)),
)
"""Every rule with the sections that it takes at their word."""
