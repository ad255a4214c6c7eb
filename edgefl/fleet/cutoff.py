"""A device that speaks to its operator alone, and a device without an identity: both ends of a quarantine, over SSH."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgefl.fleet.remote import ask
from edgefl.fleet.rendering import operator_addresses
from edgefl.infra.inventory import Host
from edgefl.site.model import Site

UNITS = ("edgefl-supernode.service", "edgefl-superexec.service", "tunnel-edgefl.service")
GUARD_S = 30
"""A firewall that shut the operator out undoes itself after this long."""


async def cut(site: Site, host: Host) -> str:
    """Have the device's own firewall let its operator's SSH in and nothing else, now and after a reboot, and its services stop.

    What changed in words; empty when all of it was so. Raises the errors of `ssh.run`, and ProgramFailed. Cut short between its
    two steps, the firewall comes back by itself, and the next call goes on.
    """
    rules = ruleset(operator_addresses(site), ssh_port=host.port, dhcp=site.infrastructure.module != "lab")
    said = await ask(host, "cutoff", {"step": "cut", "ruleset": rules, "units": UNITS, "guard_s": GUARD_S})
    if said["unconfirmed"]:
        await ask(host, "cutoff", {"step": "keep"})  # over a connection that the new firewall has let in
    if said["bare"]:
        return "has nothing of edgefl on it"
    return "its firewall lets the operator's SSH in and nothing else; its services stop" if said["changed"] else ""


async def renounce(host: Host) -> list[str]:
    """Have the device delete its keys and certificates; which files that were. Its ledger and data stay.

    Raises the errors of `ssh.run`, and ProgramFailed.
    """
    return list((await ask(host, "renounce", {}))["gone"])


def ruleset(operators: Sequence[str], *, ssh_port: int, dhcp: bool) -> str:
    """The file for `nft --file`: both directions, IPv4 and IPv6. No packet passes because its connection once did.

    operators: addresses. dhcp: whether the host gets its own address that way, without which it could not be reached any more.
    """
    return _TABLE.format(
        incoming=_indented(_incoming(operators, ssh_port, dhcp=dhcp)),
        outgoing=_indented(_outgoing(operators, ssh_port, dhcp=dhcp)),
    )


def _incoming(operators: Sequence[str], port: int, *, dhcp: bool) -> Iterator[str]:
    for family, icmp, addresses in _families(operators):
        yield f"{family} saddr {{ {addresses} }} tcp dport {port} accept"
        yield f"{family} saddr {{ {addresses} }} {icmp} type echo-request accept"
    yield "meta l4proto { icmp, icmpv6 } ct state related accept"
    yield "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } ip6 hoplimit 255 accept"
    if dhcp:
        yield "udp sport 67 udp dport 68 accept"
        yield "udp sport 547 udp dport 546 accept"


def _outgoing(operators: Sequence[str], port: int, *, dhcp: bool) -> Iterator[str]:
    for family, icmp, addresses in _families(operators):
        yield f"{family} daddr {{ {addresses} }} tcp sport {port} tcp flags & (syn | ack) != syn accept"
        yield f"{family} daddr {{ {addresses} }} {icmp} type echo-reply accept"
    yield "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept"
    if dhcp:
        yield "udp sport 68 udp dport 67 accept"
        yield "udp sport 546 udp dport 547 accept"


def _families(addresses: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Per address family that occurs: its name, its ICMP's, and its addresses as a set's members."""
    for family, icmp, members in (
        ("ip", "icmp", [address for address in addresses if ":" not in address]),
        ("ip6", "icmpv6", [address for address in addresses if ":" in address]),
    ):
        if members:
            yield family, icmp, ", ".join(members)


def _indented(rules: Iterator[str]) -> str:
    return "\n    ".join(rules)


_TABLE = """\
#!/usr/sbin/nft --file
# In quarantine: the operator's SSH, and nothing else. Written by edgefl; loaded as one transaction.
table inet edgefl
delete table inet edgefl
table inet edgefl {{
  chain input {{
    type filter hook input priority filter; policy drop;
    iif "lo" accept
    {incoming}
    counter
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    counter
  }}
  chain output {{
    type filter hook output priority filter; policy drop;
    oif "lo" accept
    {outgoing}
    counter
  }}
}}
"""
