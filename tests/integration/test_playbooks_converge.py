"""The whole site.yml on lab hosts: a coordinator that has nothing yet but Debian, and a device on the lab's layer."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from edgefl.errors import ExitCode
from edgefl.fleet import ansible, bundle, rendering, signature
from edgefl.fleet.bundle import Bundle
from edgefl.infra.inventory import Host, Inventory
from edgefl.lab.hosts import HostSpec, Lab
from edgefl.lab.image import image
from edgefl.lab.preload import preload
from edgefl.pki.authority import Authority
from edgefl.progress import Progress, Step
from edgefl.site import Site, load

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SERVICES = {
    "coordinator": ("edgefl-superlink", "edgefl-superexec", "edgefl-monitor", "edgefl-gate"),
    "edge-01": ("edgefl-supernode", "edgefl-superexec"),
}


@dataclass(frozen=True)
class Fleet:
    """A lab and what stands on it."""

    site: Site
    lab: Lab
    inventory: Inventory
    package: Bundle

    def converge(self, **how: bool) -> list[Step]:
        events = asyncio.run(_all(ansible.converge(self.site, self.inventory, self.package, **how)))
        return [event for event in events if isinstance(event, Step)]

    def forget(self) -> None:
        """Have the next run look at everything, as if no run had ended well before."""
        (self.site.state / "ansible" / "standing.json").unlink()

    def on(self, host: str, command: str) -> str:
        return self.lab.execute(host, ["sh", "-c", command]).stdout


async def _all(events: AsyncIterator[Progress]) -> list[Progress]:
    return [event async for event in events]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    root = tmp_path_factory.mktemp("converge")
    (root / "site.yaml").write_text(
        "name: clinic\ndevices: [{name: edge-01}]\nprivacy: {mode: none}\n"
        "isolation:\n  device: [{address: 10.77.0.1, port: 5432-5433}, {address: 10.77.0.1, port: 3142, by: host}]\n"
    )
    site = load(root)
    asyncio.run(_all(bundle.build(site, site.state / "bundle")))
    signature.sign(Bundle.load(site.state / "bundle"), Authority.open(site.state, site=site))
    lab = Lab(site.state / "lab", site.infrastructure.network)
    try:
        lab.use_layer(preload(image(), site.state / "bundle"))
        specs = [HostSpec("coordinator", "10.77.0.10", "coordinator", preloaded=False), HostSpec("edge-01", "10.77.0.11")]
        states = [lab.create(spec) for spec in specs]
        hosts = [
            Host(state.spec.name, role, state.spec.address, 22, "root", str(lab.key), state.host_key, str(lab.root))
            for state, role in zip(states, ("coordinator", "device"), strict=True)
        ]
        fleet = Fleet(site, lab, Inventory(tuple(hosts)), Bundle.load(site.state / "bundle"))
        fleet.converge()
        yield fleet
    finally:
        lab.down()


def test_a_second_run_changes_nothing_and_its_check_says_so(fleet: Fleet) -> None:
    fleet.forget()
    assert [step for step in fleet.converge(check=True) if step.changed] == []
    whole = fleet.converge()
    assert [step for step in whole if step.changed] == []

    short = fleet.converge()
    assert {step.what for step in short} - {step.what for step in whole} == {"A site that stands is left as it is"}
    assert not any("SuperNode" in step.what for step in short)
    assert [step for step in short if step.changed] == []


def test_every_unit_is_active_and_exposes_at_most_three_of_ten(fleet: Fleet) -> None:
    for host, services in SERVICES.items():
        for service in services:
            assert fleet.on(host, f"systemctl is-active {service}").strip() == "active"
            said = fleet.on(host, f"systemd-analyze security --no-pager {service}.service | tail -1")
            exposure = re.search(r"exposure level for \S+ ([\d.]+)", said)
            assert exposure is not None, said
            assert float(exposure[1]) <= 3.0


def test_a_bare_coordinator_got_the_bundles_packages_and_none_runs_by_itself(fleet: Fleet) -> None:
    assert fleet.on("coordinator", "dpkg-query -W -f '${db:Status-Status}' haproxy") == "installed"
    assert (fleet.lab.root / "hosts" / "coordinator" / "upper" / "usr" / "sbin" / "haproxy").is_file(), "not the image's"
    assert fleet.on("coordinator", "systemctl is-enabled haproxy").strip() == "masked"
    assert fleet.on("coordinator", "systemctl is-active haproxy").strip() == "inactive"


def test_private_keys_belong_to_their_service_alone_and_never_came_to_the_operator(fleet: Fleet) -> None:
    listed = fleet.on("edge-01", "stat -c '%a %U %n' /etc/edgefl/identity/*.key").splitlines()
    assert listed == ["600 edgefl-node /etc/edgefl/identity/device.key", "600 edgefl-node /etc/edgefl/identity/node.key"]
    signing = fleet.on("edge-01", "stat -c '%a %U %n' /etc/edgefl/signing/*").splitlines()
    assert signing == [
        "644 root /etc/edgefl/signing/ca.crt",
        "644 root /etc/edgefl/signing/crl.pem",
        "644 root /etc/edgefl/signing/signer.crt",
        "600 edgefl-app /etc/edgefl/signing/signer.key",
    ]

    key = fleet.on("edge-01", "sed -n 2p /etc/edgefl/identity/device.key").strip()
    secret = fleet.on("edge-01", "cat /etc/edgefl/superexec.secret").strip()
    records = [path for path in (fleet.site.state / "ansible").rglob("*") if path.is_file()]
    assert records
    for record in records:
        content = record.read_text(errors="replace")
        assert key not in content
        assert secret not in content
        assert "PRIVATE KEY" not in content


@pytest.mark.parametrize(
    ("host", "account", "target", "opens"),
    [
        ("edge-01", "edgefl-node", "10.77.0.10 7443", True),
        ("edge-01", "edgefl-node", "10.77.0.10 7444", False),
        ("edge-01", "edgefl-node", "10.77.0.1 22", False),
        ("edge-01", "edgefl-node", "127.0.0.1 22", False),
        ("edge-01", "edgefl-app", "127.0.0.1 9094", True),
        ("edge-01", "edgefl-app", "10.77.0.10 7443", False),
        ("edge-01", "nobody", "10.77.0.10 7443", False),
        ("edge-01", "root", "127.0.0.1 9094", False),
        ("coordinator", "edgefl-gate", "127.0.0.1 8000", True),
        ("coordinator", "nobody", "127.0.0.1 8000", False),
        ("coordinator", "root", "127.0.0.1 8000", False),
        ("coordinator", "edgefl-server", "10.77.0.11 22", False),
    ],
)
def test_each_account_reaches_what_it_must_and_nothing_else(
    fleet: Fleet, host: str, account: str, target: str, opens: bool
) -> None:
    address, port = target.split()
    code = f"import socket; socket.create_connection(('{address}', {port}), 3)"
    done = fleet.lab.execute(host, ["runuser", "-u", account, "--", "python3", "-c", code])

    assert (done.returncode == 0) is opens, done.stderr


def test_what_the_site_allows_is_open_through_both_walls_to_whom_it_is_meant(fleet: Fleet) -> None:
    """Nobody listens there: what gets out is refused by the operator's machine (111), what does not by the device's own (113)."""
    code = "import socket; s = socket.socket(); s.settimeout(5); print(s.connect_ex(('10.77.0.1', {})))"

    def answer(account: str, port: int, *within: str) -> int:
        inside = [*(within or ("runuser", "-u", account, "--")), "python3", "-c", code.format(port)]
        return int(fleet.lab.execute("edge-01", inside).stdout)

    said = {(who, port): answer(who, port) for who in ("edgefl-app", "edgefl-node", "root") for port in (5433, 5434, 3142)}
    assert {path for path, number in said.items() if number == 111} == {("edgefl-app", 5433), ("root", 3142)}, said
    assert set(said.values()) == {111, 113}

    def behind_the_wall_of(unit: str) -> int:
        listed = fleet.on("edge-01", f"systemctl show --property=IPAddressAllow --value {unit}").split()
        wall = [f"--property=IPAddress{key}" for key in ("Deny=any", *(f"Allow={address}" for address in listed))]
        return answer("edgefl-app", 5433, "systemd-run", "--quiet", "--pipe", "--wait", "--uid=edgefl-app", *wall)

    assert behind_the_wall_of("edgefl-superexec") == 111
    assert behind_the_wall_of("edgefl-supernode") != 111


def test_drift_is_shown_by_a_check_and_put_right_by_a_run(fleet: Fleet) -> None:
    fleet.on("edge-01", "systemctl stop walls-edgefl")  # else the host itself is faster
    fleet.on("edge-01", "nft add rule inet edgefl output accept; echo >>/etc/edgefl/host.json; systemctl stop edgefl-superexec")
    would = {step.what for step in fleet.converge(check=True) if step.changed}
    did = {step.what for step in fleet.converge() if step.changed}

    assert would == did
    assert len(did) == 5
    assert [step for step in fleet.converge() if step.changed] == []


@pytest.mark.parametrize("strategy", ["linear", "mitogen_linear"])
def test_a_host_that_shows_another_key_is_not_touched(fleet: Fleet, strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "is_accelerated", lambda _: strategy == "mitogen_linear")
    fleet.on("edge-01", "echo >>/etc/edgefl/host.json")
    drifted = fleet.on("edge-01", "sha256sum /etc/edgefl/host.json")
    impostor = ed25519.Ed25519PrivateKey.generate().public_key()
    line = impostor.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    pinned = Inventory(tuple(replace(h, host_key=line) if h.name == "edge-01" else h for h in fleet.inventory.hosts))

    with pytest.raises(ansible.HostsUnfit, match="edge-01: shows another SSH host key than the one that is known for it"):
        asyncio.run(_all(ansible.converge(fleet.site, pinned, fleet.package)))
    configured = (fleet.site.state / "ansible" / "ansible.cfg").read_text()
    assert ("strategy = mitogen_linear" in configured) is (strategy == "mitogen_linear")
    assert fleet.on("edge-01", "sha256sum /etc/edgefl/host.json") == drifted

    assert "edge-01" in {step.subject for step in fleet.converge() if step.changed}, "with its own key it is put right"
    assert fleet.on("edge-01", "sha256sum /etc/edgefl/host.json") != drifted


def test_the_authoritys_passphrase_reaches_ansible_in_memory_and_no_record(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    passphrase = "a horse that is no battery 5c1f"
    certificate = "/etc/edgefl/identity/device.crt"
    with encrypted(fleet.site.state / "pki", passphrase):
        fleet.on("edge-01", f"rm {certificate}")
        with pytest.raises(ansible.AnsibleFailed, match="no passphrase was given") as failed:
            fleet.converge()
        assert "EDGEFL_PASSPHRASE" in failed.value.hint
        assert fleet.on("edge-01", f"ls {certificate} 2>/dev/null") == ""

        monkeypatch.setenv("EDGEFL_PASSPHRASE", passphrase)
        assert "edge-01" in {step.subject for step in fleet.converge() if step.changed}
        assert "CN = edge-01" in fleet.on("edge-01", f"openssl x509 -noout -subject -in {certificate}")
    records = [path.read_bytes() for path in (fleet.site.state / "ansible").rglob("*") if path.is_file()]
    assert any(b"EDGEFL_PASSPHRASE_FILE" in record for record in records), "the run's environment is recorded"
    assert not any(passphrase.encode() in record for record in records)


@contextmanager
def encrypted(directory: Path, passphrase: str) -> Iterator[None]:
    """The authority's keys as they are where a passphrase was given when they were made."""
    plain = {path: path.read_bytes() for path in directory.glob("*.key")}
    assert len(plain) == 2
    try:
        for path, pem in plain.items():
            key = serialization.load_pem_private_key(pem, None)
            how = serialization.BestAvailableEncryption(passphrase.encode())
            path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))
        yield
    finally:
        for path, pem in plain.items():
            path.write_bytes(pem)


def test_a_ruleset_that_locks_the_operator_out_is_refused_or_undoes_itself(fleet: Fleet, tmp_path: Path) -> None:
    before = fleet.on("edge-01", "nft --stateless list table inet edgefl")
    stranger = fleet.site.model_copy(update={"isolation": fleet.site.isolation.model_copy(update={"operator_addresses": []})})
    foreign = stranger.infrastructure.model_copy(update={"network": type(stranger.infrastructure.network)("10.77.0.200/24")})
    stranger = stranger.model_copy(update={"infrastructure": foreign})
    stranger._root = fleet.site.root  # copies of a site do not carry where it lies

    with pytest.raises(ansible.AnsibleFailed, match=r"10\.77\.0\.1, which is not among isolation\.operator_addresses"):
        asyncio.run(_all(ansible.converge(stranger, fleet.inventory, fleet.package)))
    assert fleet.on("edge-01", "nft --stateless list table inet edgefl") == before


def test_the_walls_stand_after_a_reboot(fleet: Fleet) -> None:
    before = fleet.on("edge-01", "nft --stateless list table inet edgefl")
    fleet.lab.reboot("edge-01")

    assert fleet.on("edge-01", "nft --stateless list table inet edgefl") == before
    assert before


def test_a_corrupt_bundle_is_refused_before_anything_of_it_is_installed(fleet: Fleet, tmp_path: Path) -> None:
    corrupt = tmp_path / "bundle"
    shutil.copytree(fleet.package.path, corrupt, copy_function=os.link)
    (corrupt / "app" / "edgefl.tar.gz").unlink()
    (corrupt / "app" / "edgefl.tar.gz").write_bytes(b"not what the manifest names")
    package = replace(fleet.package, path=corrupt, app_hash="0" * 64)
    for host in SERVICES:
        fleet.on(host, "rm -r /var/cache/edgefl")  # what a host has kept by its hash, it need not be sent
    before = fleet.on("edge-01", "ls -l /opt/edgefl /opt/edgefl/releases")

    with pytest.raises(ansible.BundleRefused, match=r"the bundle is corrupt: app/edgefl\.tar\.gz") as failed:
        asyncio.run(_all(ansible.converge(fleet.site, fleet.inventory, package)))
    assert "rm -r .edgefl/bundle" in failed.value.hint
    assert fleet.on("edge-01", "ls -l /opt/edgefl /opt/edgefl/releases") == before


def test_a_bundle_that_the_sites_authority_did_not_sign_is_refused_on_the_device(fleet: Fleet, tmp_path: Path) -> None:
    stranger = tmp_path / "bundle"
    shutil.copytree(fleet.package.path, stranger, copy_function=os.link)
    (stranger / "manifest.sig").unlink()
    other = Authority.open(tmp_path / "other", site=fleet.site)
    signature.sign(Bundle.load(stranger), other)
    package = replace(fleet.package, path=stranger, app_hash="0" * 64)
    before = fleet.on("edge-01", "ls -l /opt/edgefl /opt/edgefl/releases")

    with pytest.raises(ansible.BundleRefused, match="the bundle is not signed: its signature is not from") as failed:
        asyncio.run(_all(ansible.converge(fleet.site, fleet.inventory, package)))
    assert failed.value.exit_code == ExitCode.BUNDLE_INVALID
    assert fleet.on("edge-01", "ls -l /opt/edgefl /opt/edgefl/releases") == before


def test_a_reset_takes_all_of_edgefl_and_leaves_what_is_the_devices_own(fleet: Fleet) -> None:
    own = {"/var/lib/edgefl/ledger/mark": "spent", "/srv/edgefl/data/mark": "record", "/etc/mark": "mine"}
    for path, text in own.items():
        fleet.on("edge-01", f"mkdir -p $(dirname {path}); echo {text} >{path}")

    def reset() -> list[Step]:
        events = asyncio.run(_all(ansible.converge(fleet.site, fleet.inventory, fleet.package, playbook="reset.yml")))
        return [event for event in events if isinstance(event, Step) and event.changed]

    assert {step.subject for step in reset()} == set(SERVICES)
    for host in SERVICES:
        assert fleet.on(host, "ls -d /etc/edgefl /opt/edgefl /etc/systemd/system/*edgefl* 2>/dev/null") == ""
        assert "edgefl" not in fleet.on(host, "nft list tables")
        assert "edgefl-" not in fleet.on(host, "ps -eo user:32")
    assert {path: fleet.on("edge-01", f"cat {path}").strip() for path in own} == own
    assert reset() == []
