"""What a device in quarantine lets through, as the kernel reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgefl.fleet.cutoff import ruleset

OPERATORS = ["10.77.0.1", "fd77::1"]


def test_the_operator_alone_is_let_in_and_nobody_is_called() -> None:
    rules = ruleset(OPERATORS, ssh_port=2222, dhcp=False)
    assert "ip saddr { 10.77.0.1 } tcp dport 2222 accept" in rules
    assert "ip6 saddr { fd77::1 } tcp dport 2222 accept" in rules
    assert rules.count("policy drop") == 3
    accepted = [line.strip() for line in rules.splitlines() if line.strip().endswith(" accept")]
    allowed = ("10.77.0.1", "fd77::1", '"lo"', "icmp")
    assert [line for line in accepted if not any(part in line for part in allowed)] == []
    assert "established" not in rules, "what lives is cut"


def test_a_host_that_has_its_address_by_dhcp_keeps_it_and_one_family_needs_no_other() -> None:
    rules = ruleset(["10.77.0.1"], ssh_port=22, dhcp=True)
    assert "udp sport 68 udp dport 67 accept" in rules
    assert "ip6 saddr" not in rules
    assert "udp" not in ruleset(["10.77.0.1"], ssh_port=22, dhcp=False)


@pytest.mark.slow
@pytest.mark.parametrize("operators", [OPERATORS, ["10.77.0.1"], ["fd77::1"]])
def test_the_kernel_takes_the_ruleset_and_a_second_time_it_is_the_same(operators: list[str], tmp_path: Path) -> None:
    if shutil.which("nft", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("nftables is not installed")
    file = tmp_path / "firewall.nft"
    file.write_text(ruleset(operators, ssh_port=22, dhcp=True))
    load = 'nft --file "$1" && nft --stateless list table inet edgefl'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-euc", f"{load} > {tmp_path}/once && {load} > {tmp_path}/twice", "sh", str(file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "Operation not permitted" in done.stderr:
        pytest.skip("a network namespace needs root")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "once").read_text() == (tmp_path / "twice").read_text()
