"""Which modes go together. Some undo what others promise: they are refused here, with what works instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgefl.site.model import Site
from edgefl.site.robustness import attackers, needed

if TYPE_CHECKING:
    from edgefl.site.source import Location  # reads YAML, and a coordinator that asks for the modes has no YAML

Mistake = tuple["Location", str, str]
"""Where, what is wrong, and what would be right."""

MOST_MEMBERS = 256
"""Devices of one sum, at most."""
MOST_ENCRYPTED = 2.0**13
"""The largest number that a homomorphic sum may reach."""

MOST_VALUES = 1_000_000
"""Of a model in homomorphic sums: larger ones' ciphertexts (33 MB a million) are more than links and devices at the edge should
carry.
"""


def malicious(site: Site) -> int:
    """How many of the site's devices may be."""
    return attackers(site.aggregation.byzantine, len(site.devices))


def hidden_updates(site: Site) -> Iterator[Mistake]:
    """A sum hides its members from every rule; the means of groups can be judged, if most groups are honest."""
    rule, group = site.aggregation.rule, site.secure.group_size
    if site.secure.mode == "none" or rule == "mean":
        return
    if not group:
        what = f"{rule} judges single updates, and {site.secure.mode} sums hide them"
        if site.secure.mode == "masked" and (most := _largest_group(site)):
            works = f"secure.group_size: {most}, so that {rule} judges the means of groups; rule: mean; or secure.mode: none"
        else:
            works = "rule: mean, or secure.mode: none"
        yield ("aggregation", "rule"), what, works
    elif site.secure.mode == "masked" and (groups := site.secure.sums(len(site.devices))) < (
        needs := needed(rule, malicious(site))
    ):
        what = (
            f"{len(site.devices)} devices in groups of {group} are {groups} groups, "
            f"and {rule} against {malicious(site)} malicious devices needs {needs}"
        )
        smaller = f"group_size: {most}, " if (most := _largest_group(site)) else ""
        yield ("secure", "group_size"), what, f"{smaller}more devices, a lower aggregation.byzantine, or rule: mean"


def sizes_of_sums(site: Site) -> Iterator[Mistake]:
    """A sum of one is the update itself; a sum of two tells either the other's."""
    if site.secure.mode == "none":
        return
    group, devices = site.secure.group_size, len(site.devices)
    place: Location = ("secure", "group_size")
    if group == 1:
        yield place, "a sum of one device's update is that update", "group_size: 2 or more, or 0 for one sum of all"
    elif group > devices:
        yield (
            place,
            f"groups of {group} need {group} devices, and the site has {devices}",
            "a smaller group, or 0 for one sum of all",
        )
    elif devices < 3:
        what = f"{devices} devices: each would know the other's update from their sum"
        yield ("secure", "mode"), what, "add devices, or secure.mode: none"
    elif (most := -(-devices // site.secure.sums(devices))) > MOST_MEMBERS:
        yield place, f"a sum of {most} devices: {MOST_MEMBERS} are the most", f"group_size: {MOST_MEMBERS // 2}"


def encrypted_sums(site: Site) -> Iterator[Mistake]:
    """Ciphertexts are added, and nothing else; what makes masked sums smaller or judged in groups is not there for them."""
    secure = site.secure
    if secure.mode != "homomorphic":
        return
    works = "or secure.mode: masked"
    if secure.group_size:
        yield (
            ("secure", "group_size"),
            "homomorphic sums are of all devices, and no rule judges groups",
            f"group_size: 0, {works}",
        )
    if secure.bits != 32:
        yield ("secure", "bits"), "homomorphic sums carry numbers of their own precision", f"bits: 32, {works}"
    if secure.keep != 1:
        yield ("secure", "keep"), "homomorphic sums carry every value", f"keep: 1.0, {works}"
    if (reach := secure.clip * len(site.devices)) > MOST_ENCRYPTED:
        what = f"a sum of {len(site.devices)} updates of up to {secure.clip:g} can reach {reach:g}, beyond what CKKS carries here"
        yield ("secure", "clip"), what, f"clip: {MOST_ENCRYPTED / len(site.devices):g} or less, {works}"


def too_large(values: int) -> tuple[str, str]:
    """What is wrong with a model of more than MOST_VALUES in homomorphic sums, and what would be right."""
    return (
        f"the model has {values:,} values, and homomorphic sums carry at most {MOST_VALUES:,}",
        "secure.mode: masked, which any size can take, or a smaller model",
    )


def small_sums(site: Site) -> Iterator[Mistake]:
    """Values that each device chooses for itself do not add up."""
    if site.secure.mode == "none" or site.compression.mode == "none":
        return
    place: Location = ("compression", "mode")
    if site.compression.mode == "top-k":
        what = f"each device's own largest values do not add up under {site.secure.mode} sums"
        yield (
            place,
            what,
            "mode: none with secure.mode: masked and secure.keep: 0.1 (the coordinator says which), or secure.mode: none",
        )
    else:
        what = f"each device's own scales do not add up under {site.secure.mode} sums"
        yield place, what, "mode: none with secure.mode: masked and secure.bits: 8, or secure.mode: none"


def selected_sums(site: Site) -> Iterator[Mistake]:
    """Sums and their groups are made of all devices, and a device that is judged for a place must be seen alone."""
    if site.secure.mode != "none" and site.run.selection.strategy != "all":
        what = f"{site.secure.mode} sums are of all devices, and a selection leaves some out"
        yield ("run", "selection", "strategy"), what, "strategy: all, or secure.mode: none"


def own_pace(site: Site) -> Iterator[Mistake]:
    """Asynchronous rounds take each update when it comes, beside ones that began with another model."""
    if site.run.mode != "asynchronous":
        return
    place: Location = ("run", "mode")
    if site.secure.mode != "none":
        what = f"{site.secure.mode} sums need updates that began with one model, and end together"
        yield place, what, "mode: synchronous, or secure.mode: none"
    if site.run.selection.strategy != "all":
        what = "asynchronous asks every device as soon as it has replied: there is nothing to select"
        yield place, what, "mode: synchronous, or run.selection.strategy: all"


def whole_devices(site: Site) -> Iterator[Mistake]:
    """Privacy of whole devices is the coordinator's to give, out of single updates, by its one ledger."""
    if site.privacy.mode != "client":
        return
    yield from unbounded(site.aggregation.rule, site.secure.mode, site.run.selection.strategy)
    devices, delta = len(site.devices), site.privacy.delta
    if delta * devices >= 1:
        yield ("privacy", "delta"), f"delta {delta:g} promises nothing for {devices} devices", f"below {1 / devices:.1g}"
    for index, device in enumerate(site.devices):
        for name in ("epsilon_limit", "epsilon_per_run"):
            if getattr(device, name) is not None:
                what = f"with privacy.mode: client the coordinator keeps one budget for all, not {device.name}'s own"
                yield ("devices", index, name), what, "leave it out, or privacy.mode: dp-sgd"


def unbounded(rule: str, secure: str, strategy: str) -> Iterator[Mistake]:
    """What keeps the coordinator from bounding how far one device moves the model, which its noise is measured by."""
    if rule != "mean":
        what = f"{rule} judges an update by the others: how far one device moves it has no bound that noise could hide"
        yield ("aggregation", "rule"), what, "rule: mean with privacy.mode: client; or privacy.mode: dp-sgd, with any rule"
    if secure != "none":
        what = f"{secure} sums hide the single updates that privacy.mode: client must clip"
        yield ("secure", "mode"), what, "secure.mode: none; or privacy.mode: dp-sgd, which goes with sums"
    if strategy in {"performance", "resources"}:
        what = f"{strategy} chooses by what devices report of their records and speed: each then decides also who else is heard"
        yield (
            ("run", "selection", "strategy"),
            what,
            "strategy: all or random with privacy.mode: client; or privacy.mode: dp-sgd, with any strategy",
        )


def _largest_group(site: Site) -> int:
    """The largest groups that leave the rule enough of them; 0 where there are none of two or more."""
    most = len(site.devices) // needed(site.aggregation.rule, malicious(site))
    return most if most >= 2 else 0
