"""A fleet's walls, measured on its hosts: how soon a change is healed, how many paths are probed, whether a secret lies about.

Functions for `benchmarks/life.py` and the end-to-end tests; each takes what it looks at and leaves it as it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgefl.fleet import evidence
from edgefl.lab.hosts import Lab
from edgefl.site.model import Site

_TABLE = ["nft", "--stateless", "list", "table", "inet", "edgefl"]
_SECRETS: Mapping[str, Sequence[str]] = {
    "coordinator": ["/etc/edgefl/identity/*.key", "/etc/edgefl/identity/gate.pem", "/etc/edgefl/superexec.secret"],
    "device": ["/etc/edgefl/identity/*.key", "/etc/edgefl/signing/*.key", "/etc/edgefl/superexec.secret"],
}
_ON_HOSTS = {
    "the journal of its services": "journalctl --no-pager --output=export",
    "argument lists": "cat /proc/[0-9]*/cmdline",
    "what crashed": "cat /var/lib/systemd/coredump/* /var/crash/* /root/edgefl-crash.txt",
    "temporary files": "find /tmp /var/tmp /dev/shm -type f -exec cat {} +",
    "the event journal": "cat /var/lib/edgefl/journal/journal.db*",
}
_READABLE = r"tr -c '[:print:]' '\n'"
_OWNED = "/etc /var /opt /srv /root /home /tmp /usr/local"
"""Where a host's own files lie: what whoever steals its disk would read."""


def drift_heal_seconds(lab: Lab, host: str, *, within_s: float = 120.0) -> float:
    """Flush a host's firewall, and measure until its rules are back as they were. Raises TimeoutError."""
    before = lab.execute(host, _TABLE).stdout
    if not before:
        raise RuntimeError(f"{host} has no walls")
    began = time.monotonic()
    lab.execute(host, ["nft", "flush", "ruleset"])
    while lab.execute(host, _TABLE).stdout != before:
        if time.monotonic() - began > within_s:
            raise TimeoutError(f"the walls of {host} are not back after {within_s:g} s")
        time.sleep(0.05)
    return time.monotonic() - began


def paths(site: Site) -> tuple[int, int]:
    """`paths_probed` and `forbidden_paths_open` of the site's last proof (`edgefl verify`)."""
    proof = evidence.latest(site.state)
    if proof is None:
        raise RuntimeError("nothing was proven yet")
    return len(proof.results), sum(result.probe.expected == "closed" for result in proof.breaches)


def secrets_found(site: Site, lab: Lab) -> list[str]:
    """Where a private key or a shared secret lies that has no business there: `SECRET in PLACE`; empty when all is well.

    Searched are the operator's working state (Terraform's state, Ansible's records, proofs, crashes, without the authority's own
    directory and the lab's disks), and each host's logs, event journal, argument lists, core dumps and temporary files.
    """
    known = dict(_secrets(site, lab))
    places = dict(_places(site, lab))
    return [f"{name} in {place}" for name, secret in known.items() for place, text in places.items() if secret in text]


def foreign_keys(site: Site, lab: Lab, host: str) -> list[str]:
    """Private keys of other hosts, and of the site's authority, on a host's disk, by name."""
    known = {name: secret for name, secret in _secrets(site, lab) if not name.startswith(f"{host}:") and "secret" not in name}
    found = []
    for name, secret in known.items():
        search = f"grep --recursive --binary-files=text --files-with-matches --fixed-strings --file=- {_OWNED}"
        done = lab.execute(host, ["sh", "-c", search], secret.decode() + "\n", timeout_s=300)
        found += [f"{name} in {path}" for path in done.stdout.split()]
    return found


def _secrets(site: Site, lab: Lab) -> Iterator[tuple[str, bytes]]:
    """What nobody else may know, by name: the longest line of each file, since the last of a key is short."""
    for host in site.hosts:
        kept = _SECRETS["coordinator" if host is site.coordinator else "device"]
        listed = lab.execute(host.name, ["sh", "-c", f"ls {' '.join(kept)}"]).stdout.split()
        for path in listed:
            yield f"{host.name}:{path}", _telling(lab.execute(host.name, ["cat", path]).stdout)
    for key in ("pki/root.key", "pki/issuing.key", "operator/operator.key"):
        yield f"operator:{key}", _telling((site.state / key).read_text())


def _telling(text: str) -> bytes:
    """The line of a key, or of a secret, that tells it from all others; certificates after a key are public."""
    key = text.partition("-----END")[0].splitlines()
    body = [line for line in key if line and not line.startswith("-----")]
    if not body:
        raise RuntimeError("there is no secret in the file")
    return body[1 if len(body) > 1 else 0].encode()  # the first line of a P-256 key is the same in all of them


def _places(site: Site, lab: Lab) -> Iterator[tuple[str, bytes]]:
    own = (site.state / "pki", site.state / "operator", site.state / "lab" / "hosts")
    for path in site.state.rglob("*"):
        if path.is_file() and path.suffix != ".whl" and not any(place in path.parents for place in own):
            yield str(path.relative_to(site.state)), path.read_bytes()
    for host in site.hosts:
        for place, command in _ON_HOSTS.items():
            said = lab.execute(host.name, ["sh", "-c", f"{{ {command}; }} 2>/dev/null | {_READABLE}"], timeout_s=120).stdout
            yield f"{host.name}: {place}", said.encode()


def _main() -> None:
    import argparse
    import json

    from edgefl.site import load

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, help="a lab site that stands")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    site = load(args.site)
    lab = Lab(site.state / "lab", site.infrastructure.network)
    probed, opened = paths(site)
    found = secrets_found(site, lab)
    said = {
        "paths_probed": probed,
        "forbidden_paths_open": opened,
        "drift_heal_seconds": round(drift_heal_seconds(lab, site.devices[0].name), 2),
        "secrets_found": len(found),
    }
    print(json.dumps(said) if args.json else "\n".join(f"{name}: {value}" for name, value in said.items()))


if __name__ == "__main__":
    _main()
