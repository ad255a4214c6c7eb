"""What a site allows, through the roles' own rulesets in the kernel: by whom it may be used, and by whom not."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from edgefl import layout
from edgefl.fleet.evidence import Result
from edgefl.fleet.probes import matrix
from edgefl.infra.inventory import Host, Inventory
from edgefl.site.model import Device, Infrastructure, Isolation, Site
from tests.integration.fleet.wire import HERE, THERE, Namespace, probe_all, wired
from tests.walls import ruleset

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="network namespaces and nft need root")

USERS = [value for name, value in vars(layout).items() if name.startswith("USER_")]
ARCHIVE, ARCHIVE6, AWAY = "10.99.0.33", "fd00:99::33", "10.99.0.77"
ALLOWED = [
    {"address": ARCHIVE, "port": "11112-11115"},
    {"address": f"{ARCHIVE6}/128", "port": 5432},
    {"address": "10.99.0.128/28", "port": 514, "protocol": "udp", "by": "host"},
    {"address": AWAY, "port": 8080, "by": "host"},
]
SERVE = """
import socket, sys
held = [socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) for port in map(int, sys.argv[1:])]
print(flush=True)
while True:
    sys.stdin.read(1) or sys.exit()
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Namespace, Namespace]]:
    """A host with edgefl's accounts, and an archive on its network that answers at the ports next to the allowed ones too."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    added = [f"{user}:x:{62000 + n}:65534::/:/usr/sbin/nologin\n" for n, user in enumerate(USERS) if user not in known]
    (tmp_path / "passwd").write_text(Path("/etc/passwd").read_text() + "".join(added))
    with wired() as (here, there):
        here.run("mount", "--bind", str(tmp_path / "passwd"), "/etc/passwd")
        for address in (ARCHIVE, "10.99.0.129"):
            there.run("ip", "addr", "add", f"{address}/24", "dev", "wire")
        for namespace, address in ((here, "fd00:99::1"), (there, ARCHIVE6), (there, "fd00:99::34")):
            namespace.run("ip", "addr", "add", f"{address}/64", "dev", "wire", "nodad")
        ports = [str(port) for port in (7443, 5431, 5432, 5433, *range(11111, 11117))]
        serving = subprocess.Popen(
            [*there.inside(), "python3", "-c", SERVE, *ports], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert serving.stdout
        assert serving.stdin
        try:
            assert serving.stdout.readline(), "it listens now"
            yield here, there
        finally:
            serving.stdin.close()
            serving.wait(60)
            serving.stdout.close()


def a_site(role: str) -> tuple[Site, Inventory, Host]:
    """A site whose host `here` has the role."""
    isolation = Isolation.model_validate({"operator_addresses": ["10.99.0.9"], role: ALLOWED})
    site = Site(name="t", devices=[Device(name="edge-01")], infrastructure=Infrastructure(module="static"), isolation=isolation)
    places = {"device": (THERE, HERE), "coordinator": (HERE, THERE)}[role]
    coordinator = Host("coordinator", "coordinator", places[0], 22, "root")
    device = Host("edge-01", "device", places[1], 22, "root")
    return site, Inventory((coordinator, device)), device if role == "device" else coordinator


def seen(here: Namespace, site: Site, inventory: Inventory, host: Host) -> dict[str, Result]:
    """What the proof sees of the ways that the site allows, and of those beside them; and of the one that edgefl needs."""
    probes = [p for p in matrix(site, inventory) if p.host == host.name and p.kind in ("allowed", "service")]
    said = probe_all(here, [asdict(probe) | {"id": probe.id} for probe in probes])
    return {probe.id: Result(probe, *said[probe.id]) for probe in probes}  # type: ignore[arg-type]


def load(here: Namespace, rules: str) -> None:
    here.run("nft", "-f", "-", given=rules)


@pytest.mark.parametrize(("role", "task", "other"), [("device", "app", "node"), ("coordinator", "server", "monitor")])
def test_each_way_is_open_for_whom_it_is_meant_and_for_nobody_else(
    pair: tuple[Namespace, Namespace], role: str, task: str, other: str
) -> None:
    site, inventory, host = a_site(role)
    load(pair[0], ruleset(host, inventory, [], site.isolation.of(role)))
    results = seen(pair[0], site, inventory, host)
    assert [str(result) for result in results.values() if not result.is_as_expected] == []

    def of(user: str, path: str) -> str:
        return results[f"{host.name}/{user} → {path}"].observed

    for path in (f"tcp {ARCHIVE}:11112", f"tcp {ARCHIVE}:11115", f"tcp [{ARCHIVE6}]:5432"):
        users = (f"edgefl-{task}", f"edgefl-{other}", "nobody", "root")
        assert [of(user, path) for user in users] == ["open", "closed", "closed", "closed"], path
    for path in (f"tcp {ARCHIVE}:11111", f"tcp {ARCHIVE}:11116", f"udp {ARCHIVE}:11112", "tcp [fd00:99::34]:5432"):
        assert of(f"edgefl-{task}", path) == "closed", path
    for path in ("udp 10.99.0.129:514", f"tcp {AWAY}:8080"):
        assert [of(user, path) for user in ("root", "nobody", f"edgefl-{task}")] == ["unanswered", "unanswered", "closed"]


def test_a_wall_that_lets_more_or_less_through_than_the_site_says_is_found(pair: tuple[Namespace, Namespace]) -> None:
    site, inventory, host = a_site("device")
    rules = ruleset(host, inventory, [], site.isolation.device)

    def breaches() -> set[str]:
        return {name for name, result in seen(pair[0], site, inventory, host).items() if not result.is_as_expected}

    load(pair[0], rules.replace('11112-11115 meta skuid "edgefl-app"', '11112-11116 meta skuid "edgefl-app"'))
    assert breaches() == {f"edge-01/edgefl-app → tcp {ARCHIVE}:11116"}
    load(pair[0], rules.replace('5432 meta skuid "edgefl-app"', '5432 meta skuid { "edgefl-app", "edgefl-node" }'))
    assert breaches() == {f"edge-01/edgefl-node → tcp [{ARCHIVE6}]:5432"}
    load(pair[0], rules.replace("udp dport 514", "udp dport 515"))
    assert breaches() == {f"edge-01/{user} → udp 10.99.0.129:514" for user in ("root", "nobody")} | {
        f"edge-01/{user} → udp 10.99.0.129:515" for user in ("root", "nobody")
    }


def test_a_way_that_the_site_takes_back_is_cut_while_it_is_in_use(pair: tuple[Namespace, Namespace]) -> None:
    site, inventory, host = a_site("device")
    load(pair[0], ruleset(host, inventory, [], site.isolation.device))
    talk = "import socket, sys; s = socket.create_connection(('10.99.0.33', 11112), 5); print(flush=True)\n"
    talk += "s.setsockopt(6, 18, 2000)\n"  # TCP_USER_TIMEOUT: what is sent must arrive within 2 s
    talk += "for line in sys.stdin: s.send(b'x')\ntry: print(s.recv(1))\nexcept OSError as error: print(type(error).__name__)"
    command = [*pair[0].inside(), "setpriv", f"--reuid={_uid(pair[0])}", "--clear-groups", "--", "/usr/bin/python3", "-c", talk]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert client.stdout
    assert client.stdout.readline() == "\n", "it is connected"
    load(pair[0], ruleset(host, inventory, []))
    said, _ = client.communicate("send\n", timeout=60)
    assert said.strip() in ("TimeoutError", "OSError", "PermissionError"), said


def _uid(namespace: Namespace) -> str:
    found = subprocess.run([*namespace.inside(), "id", "-u", layout.USER_APP], capture_output=True, text=True, check=True)
    return str(json.loads(found.stdout))
