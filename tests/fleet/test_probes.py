"""The matrix, as a table of values."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address

import pytest

from edgefl import layout
from edgefl.fleet.probes import LISTENER_PORT, OPERATOR, Probe, matrix
from edgefl.infra.inventory import Host, Inventory
from edgefl.site.host import Watcher
from edgefl.site.model import Device, Infrastructure, Isolation, Observability, Site

HUB = "10.0.1.1"
WATCH = Host("watch", "watcher", "10.0.1.9", 22, "root")
SERVICES = (layout.USER_LINK, layout.USER_SERVER, layout.USER_MONITOR, layout.USER_GATE)


def fleet(devices: int, **isolation: object) -> tuple[Site, Inventory]:
    names = [f"edge-{number:02}" for number in range(1, devices + 1)]
    site = Site(
        name="t",
        devices=[Device(name=name) for name in names],
        infrastructure=Infrastructure(module="static"),
        isolation=Isolation(operator_addresses=["198.51.100.9"], **isolation),
    )
    hosts = [Host(name, "device", f"10.0.0.{number}", 2222, "root") for number, name in enumerate(names, 1)]
    return site, Inventory((Host("coordinator", "coordinator", "10.0.1.1", 22, "root"), *hosts))


def of(probes: tuple[Probe, ...], host: str, user: str) -> dict[str, str]:
    return {
        f"{probe.protocol} {probe.address}:{probe.port}": probe.expected
        for probe in probes
        if (probe.host, probe.user) == (host, user)
    }


def test_a_devices_node_reaches_the_gate_and_nothing_else() -> None:
    paths = of(matrix(*fleet(3)), "edge-01", layout.USER_NODE)
    assert [path for path, expected in paths.items() if expected == "open"] == ["tcp 10.0.1.1:7443"]
    for closed in ("tcp 10.0.1.1:7444", "tcp 10.0.1.1:8000", "tcp 10.0.1.1:22", "tcp 10.0.0.2:2222", "tcp 198.51.100.9:22"):
        assert paths[closed] == "closed"
    assert paths["tcp 169.254.169.254:80"] == paths["udp 192.0.2.1:53"] == paths["icmp 10.0.0.2:0"] == "closed"


def test_every_kind_of_way_out_is_tried_by_every_protocol_and_both_families() -> None:
    site, inventory = fleet(3)
    probes = matrix(site, inventory, {"edge-02": ["fd00::2"], "coordinator": ["fd00::1"]})
    for host, users in (
        ("edge-01", (layout.USER_NODE, layout.USER_APP, "nobody")),
        ("coordinator", (layout.USER_SERVER, "nobody")),
    ):
        for user in users:
            paths = of(probes, host, user)
            for way in ("tcp {}:443", "udp {}:443", "icmp {}:0", "udp {}:53", "tcp {}:53"):
                assert paths[way.format("192.0.2.1")] == paths[way.format("2001:db8::1")] == "closed"
            assert paths["tcp 169.254.169.254:80"] == paths["tcp fd00:ec2::254:80"] == paths["udp 224.0.0.251:5353"] == "closed"
    for user in (layout.USER_NODE, layout.USER_APP, "nobody"):
        paths = of(probes, "edge-01", user)
        for way in ("icmp 10.0.0.2:0", "udp 10.0.0.2:47443", "icmp fd00::2:0", "udp fd00::2:47443"):
            assert paths[way] == "closed"
        assert paths["udp 10.0.1.1:7443"] == paths["icmp 10.0.1.1:0"] == "closed"


def test_a_devices_app_reaches_its_own_node_and_nothing_else() -> None:
    paths = of(matrix(*fleet(3)), "edge-01", layout.USER_APP)
    assert [path for path, expected in paths.items() if expected == "open"] == ["tcp 127.0.0.1:9094"]
    assert paths["tcp 10.0.1.1:7443"] == "closed"


def test_only_the_coordinators_own_services_reach_the_superlink() -> None:
    probes = matrix(*fleet(2))
    users = {p.user: p.expected for p in probes if p.host == "coordinator" and (p.address, p.port) == ("127.0.0.1", 8000)}
    assert users == {layout.USER_GATE: "open", layout.USER_MONITOR: "open", layout.USER_SERVER: "open", "nobody": "closed"}


def test_the_operator_tries_every_hosts_ingress() -> None:
    probes = [probe for probe in matrix(*fleet(2)) if probe.host == OPERATOR]
    assert {(p.target, p.port) for p in probes if p.expected == "open"} == {
        ("coordinator", 22),
        ("coordinator", layout.API_PORT),
        ("edge-01", 2222),
        ("edge-02", 2222),
    }
    assert {p.target for p in probes if p.port == LISTENER_PORT and p.expected == "closed"} == {
        "coordinator",
        "edge-01",
        "edge-02",
    }


def test_a_resolver_that_the_site_names_is_closed_to_edgefls_users_alone() -> None:
    probes = matrix(*fleet(1, dns=["10.9.9.9"]))
    assert of(probes, "edge-01", layout.USER_NODE)["udp 10.9.9.9:53"] == "closed"
    assert "udp 10.9.9.9:53" not in of(probes, "edge-01", "root")


def test_ipv6_is_tried_where_hosts_have_it() -> None:
    site, inventory = fleet(2)
    probes = matrix(site, inventory, {"edge-02": ["fd00::2"], "coordinator": ["fd00::1"]})
    assert of(probes, "edge-01", layout.USER_NODE)["tcp fd00::2:2222"] == "closed"
    assert of(probes, "edge-01", layout.USER_APP)["tcp fd00::1:22"] == "closed"


@pytest.mark.parametrize("devices", [1, 2, 40])
def test_every_path_has_one_name_and_every_device_is_tried_by_as_many(devices: int) -> None:
    probes = matrix(*fleet(devices))
    assert len({probe.id for probe in probes}) == len(probes)
    tried = Counter(p.target for p in probes if p.user == layout.USER_NODE and p.port == 2222 and p.kind == "peers")
    assert set(tried.values()) <= {min(16, devices - 1)}
    assert all(ip_address(probe.address) for probe in probes)


ARCHIVE = {"address": "10.2.0.7", "port": "11112-11115"}
MIRROR = {"address": "10.2.0.16/28", "port": 3142, "by": "host"}


def test_what_the_site_allows_is_open_to_whom_it_is_meant_and_what_lies_beside_it_to_nobody() -> None:
    probes = matrix(*fleet(2, device=[ARCHIVE, MIRROR]))
    app, node, root = (of(probes, "edge-01", user) for user in (layout.USER_APP, layout.USER_NODE, "root"))
    inside = ["tcp 10.2.0.7:11112", "tcp 10.2.0.7:11115"]
    beside = ["tcp 10.2.0.7:11111", "tcp 10.2.0.7:11116", "udp 10.2.0.7:11112", "tcp 10.2.0.8:11112"]
    assert [app[path] for path in inside] == ["allowed"] * 2
    assert [app[path] for path in beside] == ["closed"] * 4
    assert {paths[path] for paths in (node, root) for path in (*inside, *beside)} == {"closed"}
    assert (root["tcp 10.2.0.17:3142"], root["tcp 10.2.0.32:3142"]) == ("allowed", "closed")
    assert app["tcp 10.2.0.17:3142"] == node["tcp 10.2.0.17:3142"] == "closed"
    assert "tcp 10.2.0.7:11112" not in of(probes, "coordinator", layout.USER_SERVER)


def test_a_coordinators_task_is_its_server_app() -> None:
    probes = matrix(*fleet(1, coordinator=[ARCHIVE]))
    users = {p.user: p.expected for p in probes if (p.address, p.port, p.protocol) == ("10.2.0.7", 11112, "tcp")}
    closed = (layout.USER_LINK, layout.USER_MONITOR, layout.USER_GATE, "nobody", "root")
    assert users == {layout.USER_SERVER: "allowed"} | dict.fromkeys(closed, "closed")


def test_a_task_may_have_a_resolver_of_its_own_that_the_host_may_ask_too() -> None:
    probes = matrix(*fleet(1, dns=["10.9.9.9"], device=[{"address": "10.9.9.9", "port": 53, "protocol": "udp"}]))
    asked = [p for p in probes if (p.address, p.port, p.protocol) == ("10.9.9.9", 53, "udp") and p.host == "edge-01"]
    assert {(p.user, p.expected) for p in asked} == {(layout.USER_APP, "allowed"), (layout.USER_NODE, "closed")}


def test_no_path_is_both_open_and_closed_and_hosts_of_the_site_stay_closed_beside_an_allowance() -> None:
    site, inventory = fleet(
        3, device=[{"address": "10.0.1.0", "port": 7443}, {"address": "10.0.0.9", "port": 104}, ARCHIVE, MIRROR]
    )
    probes = matrix(site, inventory, {"edge-02": ["fd00::2"]})
    paths = [(p.host, p.user, p.protocol, p.address, p.port) for p in probes]
    assert len(set(paths)) == len(paths)
    assert of(probes, "edge-01", layout.USER_NODE)["tcp 10.0.1.1:7443"] == "open"
    assert all(p.kind != "allowed" for p in probes if p.address == "10.0.1.1")


def test_a_device_in_an_allowed_network_by_an_address_that_the_site_does_not_know_must_be_closed() -> None:
    site, inventory = fleet(2, device=[{"address": "fd00::/64", "port": 5432}])
    paths = of(matrix(site, inventory, {"edge-02": ["fd00::2"], "coordinator": ["fd00::1"]}), "edge-01", layout.USER_APP)
    assert paths["tcp fd00::2:5432"] == "closed"


def test_what_watches_opens_exactly_one_path_and_is_tried_from_everywhere() -> None:
    site, inventory = fleet(2)
    watched = site.model_copy(update={"observability": Observability(prometheus=True)})
    before, after = set(matrix(site, inventory)), set(matrix(watched, inventory))
    assert before < after
    new = after - before
    assert [probe.id for probe in new if probe.expected != "closed"] == ["coordinator/prometheus → tcp localhost:7444"]
    tried = {(probe.host, probe.user, probe.port) for probe in new if probe.expected == "closed"}
    for port in (9090, 9093, 9100):
        assert {(OPERATOR, OPERATOR, port), ("coordinator", layout.USER_SERVER, port)} <= tried
    assert {("coordinator", "prometheus", 8000), ("coordinator", "prometheus", 443)} <= tried
    assert {probe.host for probe in new} == {"coordinator", OPERATOR}


def test_a_watched_device_has_exactly_one_more_path_and_everybody_else_tries_it() -> None:
    site, inventory = fleet(2)
    watched = site.model_copy(update={"observability": Observability(prometheus=True)})
    further = site.model_copy(update={"observability": Observability(prometheus=True, devices=True)})
    before, after = set(matrix(watched, inventory)), set(matrix(further, inventory))
    assert before < after
    new = after - before
    opened = [probe.id for probe in matrix(further, inventory) if probe in new and probe.expected != "closed"]
    assert opened == [f"coordinator/prometheus → tcp edge-0{n}:9100" for n in (1, 2)]
    tried = {(probe.host, probe.user, probe.address) for probe in new if probe.expected == "closed" and probe.port == 9100}
    accounts = (layout.USER_LINK, layout.USER_SERVER, layout.USER_MONITOR, layout.USER_GATE, "nobody", "root")
    assert {("coordinator", user, "10.0.0.1") for user in accounts} <= tried
    assert {("edge-02", user, "10.0.0.1") for user in (layout.USER_NODE, layout.USER_APP, "nobody", "root")} <= tried
    assert {("edge-01", user, "127.0.0.1") for user in (layout.USER_NODE, layout.USER_APP, "nobody")} <= tried
    assert (OPERATOR, OPERATOR, "10.0.0.1") in tried
    exporter = of(matrix(further, inventory), "edge-01", layout.USER_EXPORTER)
    assert set(exporter.values()) == {"closed"}
    assert {"tcp 10.0.1.1:7443", "tcp 127.0.0.1:9094", "tcp 10.0.0.2:2222", "udp 192.0.2.1:53"} <= exporter.keys()


def test_what_watches_may_go_where_the_coordinators_own_services_may() -> None:
    site, inventory = fleet(1, coordinator=[{"address": "10.9.9.25", "port": 587, "by": "host"}])
    watched = site.model_copy(update={"observability": Observability(prometheus=True)})
    paths = of(matrix(watched, inventory), "coordinator", "prometheus")
    assert [path for path, expected in paths.items() if expected == "allowed"] == ["tcp 10.9.9.25:587"]


def alone(count: int = 2, *, devices: bool = True, **isolation: object) -> tuple[Site, Inventory]:
    """A fleet with a host of its own that watches."""
    site, inventory = fleet(count, **isolation)
    watch = Observability(prometheus=True, devices=devices, host=Watcher(name="watch"))
    return site.model_copy(update={"observability": watch}), Inventory((*inventory.hosts, WATCH))


def test_a_host_that_watches_opens_one_path_to_the_gate_and_one_to_each_device() -> None:
    site, inventory = alone()
    plain = {probe.id for probe in matrix(*fleet(2)) if probe.expected != "closed"}
    opened = [probe.id for probe in matrix(site, inventory) if probe.expected != "closed" and probe.id not in plain]
    assert sorted(opened) == [
        "coordinator/edgefl-gate → tcp localhost:9100",
        "operator/operator → tcp watch:22",
        "watch/prometheus → tcp coordinator:7444",
        "watch/prometheus → tcp edge-01:9100",
        "watch/prometheus → tcp edge-02:9100",
    ]
    fewer = [probe.id for probe in matrix(*alone(devices=False)) if probe.expected != "closed" and probe.id not in plain]
    assert sorted(fewer) == sorted(opened)[:3]


def test_nobody_else_has_these_paths_and_nobody_calls_the_host_that_watches() -> None:
    site, inventory = alone()
    probes = matrix(site, inventory)
    closed = {(probe.host, probe.user, probe.address, probe.port) for probe in probes if probe.expected == "closed"}
    assert {("watch", user, HUB, 7444) for user in ("nobody", "root")} <= closed
    assert {("watch", user, "10.0.0.1", 9100) for user in ("nobody", "root")} <= closed
    assert {("watch", "prometheus", HUB, port) for port in (7443, 8000, 9100, LISTENER_PORT)} <= closed
    assert {("watch", "prometheus", "10.0.0.1", port) for port in (2222, LISTENER_PORT)} <= closed
    assert {("watch", user, "192.0.2.1", 443) for user in ("prometheus", "nobody", "root")} <= closed
    accounts = {"coordinator": (*SERVICES, "nobody", "root"), "edge-01": (layout.USER_NODE, layout.USER_APP, "nobody", "root")}
    everybody = [(host, user) for host, users in accounts.items() for user in users]
    assert {(*who, WATCH.address, port) for who in everybody for port in (22, 9090, 9093, 9100, LISTENER_PORT)} <= closed
    assert {(OPERATOR, OPERATOR, WATCH.address, port) for port in (9090, 9093, 9100, LISTENER_PORT)} <= closed
    assert {("coordinator", user, "127.0.0.1", 9100) for user in ("edgefl-server", "edgefl-monitor", "nobody", "root")} <= closed
    own = ("coordinator", "prometheus")  # tells of the coordinator there, and reads nobody
    addresses = [*(("127.0.0.1", port) for port in (8000, 9100)), ("10.0.0.1", 9100), (WATCH.address, 9090), ("192.0.2.1", 443)]
    assert {(*own, *address) for address in addresses} <= closed
    assert not [probe for probe in probes if (probe.host, probe.user) == own and probe.expected == "open"]


def test_alerts_leave_the_host_that_watches_where_the_site_says_so_and_the_coordinator_nowhere() -> None:
    way = {"address": "10.9.9.25", "port": 587, "by": "host"}
    site, inventory = alone(watcher=[way])
    allowed = {(probe.host, probe.user) for probe in matrix(site, inventory) if probe.expected == "allowed"}
    assert allowed == {("watch", "prometheus"), ("watch", "nobody"), ("watch", "root")}


def test_a_host_that_watches_but_is_not_there_is_not_tried() -> None:
    site, inventory = alone()
    probes = matrix(site, Inventory(inventory.hosts[:-1]))
    assert not [probe for probe in probes if "watch" in (probe.host, probe.target)]
