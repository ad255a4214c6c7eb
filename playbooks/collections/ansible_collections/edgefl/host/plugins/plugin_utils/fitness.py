"""Whether a host is fit, as a function of what it says about itself."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Requirements:
    """What a host must have; megabytes are MiB. commands: what must be there, unless the bundle brings it."""

    max_clock_skew_s: float = 5.0
    min_disk_mb: int = 0
    min_memory_mb: int = 0
    python: str = ""
    distributions: Sequence[str] = ()
    architectures: Sequence[str] = ()
    commands: Sequence[str] = field(default_factory=list)


def problems(facts: Mapping[str, Any], need: Requirements) -> list[str]:
    """Every reason why the host is not fit, each with what was found and what is needed."""
    machine = facts["machine"]
    found = []
    skew, unsure = facts["clock_skew_s"], facts["clock_uncertainty_s"]
    if abs(skew) - unsure > need.max_clock_skew_s:
        found.append(f"its clock is {skew:+.0f} s off the operator's (at most {need.max_clock_skew_s:g} s): synchronise it")
    for place, free in sorted(machine["free_mb"].items()):
        if free < need.min_disk_mb:
            found.append(f"{free} MiB are free on {place}, {need.min_disk_mb} are needed")
    if machine["memory_mb"] < need.min_memory_mb:
        found.append(f"it has {machine['memory_mb']} MiB of memory, {need.min_memory_mb} are needed")
    if need.python and not (machine["python"] + ".").startswith(need.python + "."):
        found.append(f"its Python is {machine['python']}, the site's wheels are for {need.python}")
    if need.architectures and machine["architecture"] not in need.architectures:
        found.append(f"its architecture is {machine['architecture']}, the bundle is for {', '.join(need.architectures)}")
    if need.distributions and machine["distribution"] not in need.distributions:
        found.append(f"it runs {machine['distribution'] or 'an unknown system'}, known are {', '.join(need.distributions)}")
    if not machine["systemd"]:
        found.append("systemd does not run there as the init system")
    missing = [command for command in need.commands if not facts["commands"].get(command)]
    if missing:
        found.append(f"{', '.join(missing)} is missing there")
    return found


def unanswered(said: str) -> str:
    """Why no connection to a host came about, from what ssh or mitogen said."""
    # A host that answers with another key is not asked for more: it may be another machine.
    if re.search(r"host key|host identification has changed", said, re.IGNORECASE):
        return (
            "shows another SSH host key than the one that is known for it: another machine has its address, or it was installed"
            " anew; compare the key on its own screen, then set host_key in site.yaml"
        )
    return f"does not answer on SSH: {said.splitlines()[0] if said else 'nothing was said'}"


def unreadable(result: Mapping[str, Any]) -> str:
    """Why a host could not say anything, from what Ansible got instead of facts."""
    said = " ".join(str(result.get(key, "")) for key in ("msg", "module_stderr", "module_stdout")).strip()
    if "python" in said and ("not found" in said or "No such file" in said or result.get("rc") == 127):
        return "has no Python 3 at /usr/bin/python3: install it (Debian: python3-minimal)"
    # With a little room left Ansible's payload does not fit; with none Python finds no place for it at all.
    if "No space left" in said or "No usable temporary directory" in said:
        return "has a full disk: nothing can be written there"
    if "sudo" in said or "password" in said:
        return f"does not give its SSH account root rights: {said.splitlines()[0][:200]}"
    return f"could not be read: {said.splitlines()[0][:300] if said else 'it said nothing'}"


def verdict(
    unfit: Mapping[str, Sequence[str]],
    *,
    stops: bool,
    coordinator: str,
    devices: int,
    quorum: int,
    watchers: Collection[str] = (),
) -> tuple[bool, str]:
    """Whether to go on, and the block that tells the operator why.

    unfit: problems by host, empty lists left out. devices: how many the site has. watchers: hosts that no round needs.
    """
    block = [f"{name}: {problem}" for name, found in sorted(unfit.items()) for problem in found]
    if not unfit:
        return True, "every host is fit"
    count = f"{len(unfit)} host{'s are' if len(unfit) > 1 else ' is'} not fit"
    if coordinator in unfit:
        return False, "\n".join([f"{count}, the coordinator among them; nothing was changed", *block])
    left = devices - len(set(unfit) - set(watchers))
    if stops:
        return False, "\n".join([f"{count}; nothing was changed on any host", *block])
    if left < quorum:
        return False, "\n".join([f"{count}; {left} devices are left, a round needs {quorum}; nothing was changed", *block])
    return True, "\n".join([f"{count}; going on without", *block])
