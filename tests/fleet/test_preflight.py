"""What makes a host unfit, as a table of values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgefl.fleet.bundle import Bundle
from edgefl.fleet.facts import Facts, clock_skew
from edgefl.fleet.preflight import problems
from edgefl.infra.inventory import Host
from edgefl.site.model import Preflight

FIT = Facts(
    python="3.11.2",
    architecture="x86_64",
    glibc="2.36",
    release="bookworm",
    kernel="6.1",
    cores=2,
    memory_mb=1536,
    free_mb={"/opt": 9000, "/var": 9000, "/tmp": 9000},
    has_systemd=True,
    commands=("nft", "haproxy", "systemctl", "ip"),
    skew_s=0.0,
    distribution="debian",
)
DEVICE = Host("edge-01", "device", "10.0.0.1", 22, "root")
COORDINATOR = Host("coordinator", "coordinator", "10.0.0.2", 22, "root")
BUNDLE = Bundle(Path("/nowhere"), "3.11", {"x86_64": {"hash": "", "wheels": []}}, "", "", {})
WITH_DEBS = replace(BUNDLE, files={"debs/nftables_1.0_amd64.deb": ""})


def found(facts: Facts, host: Host = DEVICE, bundle: Bundle | None = BUNDLE) -> list[str]:
    return [problem.what for problem in problems(host, facts, Preflight(), python="3.11", bundle=bundle)]


def test_a_fit_host_has_no_problem() -> None:
    assert found(FIT) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"python": "3.9.2"}, "runs Python 3.9.2"),
        ({"python": "3.110.0"}, "runs Python 3.110.0"),
        ({"skew_s": 90.0}, "90 s ahead"),
        ({"skew_s": -400.0}, "400 s behind"),
        ({"free_mb": {"/opt": 9000, "/var": 10, "/tmp": 9000}}, "10 MiB are free on /var"),
        ({"memory_mb": 128}, "128 MiB of memory"),
        ({"has_systemd": False}, "systemd"),
        ({"distribution": "fedora"}, "runs fedora, and edgefl knows debian, ubuntu and raspberry pi os"),
        ({"distribution": ""}, "runs an unknown system"),
        ({"glibc": "2.27"}, "glibc 2.27"),
        ({"glibc": ""}, "glibc of no version"),
        ({"architecture": "aarch64"}, "is aarch64"),
        ({"commands": ()}, "lacks nft, and the bundle carries no"),
    ],
)
def test_each_problem_is_named(changed: dict[str, object], says: str) -> None:
    (what,) = found(replace(FIT, **changed))
    assert says in what


@pytest.mark.parametrize("distribution", ["debian", "ubuntu", "raspberry pi os"])
def test_the_systems_that_are_known_are_fit(distribution: str) -> None:
    assert found(replace(FIT, distribution=distribution)) == []


def test_packages_of_another_release_are_no_help() -> None:
    assert found(replace(FIT, commands=()), bundle=WITH_DEBS) == []
    (what,) = found(replace(FIT, commands=(), release="trixie"), bundle=WITH_DEBS)
    assert "for bookworm, not trixie" in what


def test_only_the_coordinator_needs_the_gate() -> None:
    assert found(replace(FIT, commands=("nft",))) == []
    assert len(found(replace(FIT, commands=("nft",)), COORDINATOR)) == 1


@pytest.mark.parametrize(("told", "skew"), [(100.5, 0.0), (99.0, -1.0), (103.0, 2.0), (100.0, 0.0), (101.0, 0.0)])
def test_a_clock_is_wrong_only_by_what_the_round_trip_cannot_explain(told: float, skew: float) -> None:
    assert clock_skew(told, asked=100.0, answered=101.0) == skew
