"""The lab itself, booted: what its hosts are, what limits them, what breaks them, and what is left of them (nothing)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from edgefl.lab import machine
from edgefl.lab.capsule import Capsule
from edgefl.lab.command import wait_until
from edgefl.lab.failure import HostUnknown, LabFailed
from edgefl.lab.hosts import HostSpec, Lab
from edgefl.lab.process import Process
from edgefl.lab.reach import CAPSULE_FILE, dial
from edgefl.lab.ssh import ssh_argv
from edgefl.lab.standing import INSTANCES

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
NETWORK = IPv4Interface("10.78.0.1/24")
SLOW = HostSpec("slow", "10.78.0.11", cpu=0.5, memory_mb=256, uplink_mbit=16)
FAR = HostSpec("far", "10.78.0.12", latency_ms=40, uplink_mbit=8, downlink_mbit=8)
PLAIN = HostSpec("plain", "10.78.0.13")
RECEIVE = """
import socket, time
connection, _ = socket.create_server(("", 9000)).accept()
count, began = 0, time.monotonic()
while data := connection.recv(1 << 16):
    count += len(data)
print(count * 8 / 1e6 / (time.monotonic() - began))
"""
SEND = """
import socket, time
end = time.monotonic() + 20
while True:
    try: connection = socket.create_connection(("{to}", 9000)); break
    except ConnectionRefusedError: assert time.monotonic() < end
connection.sendall(bytes({size}))
"""
BURN = "import time\nend = time.time() + 2\nwhile time.time() < end: pass\nprint(time.process_time() / 2)"
CHANGE = """
import sys
from ipaddress import IPv4Interface
from pathlib import Path
from edgefl.lab.hosts import HostSpec, Lab
lab = Lab(Path({root!r}), IPv4Interface({network!r}))
for spec in map(HostSpec.from_dict, {specs!r}): {what}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("site") / "lab", NETWORK)
    data = tmp_path_factory.mktemp("data")
    (data / "records.csv").write_text("1,2,3\n")
    try:
        create_together(lab, *([replace(spec, data=data)] for spec in (SLOW, FAR, PLAIN)))
        yield lab
    finally:
        lab.down()


def create_together(lab: Lab, *groups: list[HostSpec]) -> None:
    """Create each group of hosts, one after the other, in a process of its own; the processes all at once."""
    together(lab, "lab.create(spec)", *groups)


def together(lab: Lab, what: str, *groups: list[HostSpec]) -> None:
    about = {"root": str(lab.root), "network": str(lab.network), "what": what}
    codes = [CHANGE.format(specs=[spec.as_dict() for spec in specs], **about) for specs in groups]
    started = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for code in codes]
    for process in started:
        _, error = process.communicate(timeout=180)
        assert process.returncode == 0, error


def out(lab: Lab, host: str, *argv: str, timeout_s: float = 30) -> str:
    done = lab.execute(host, argv, timeout_s=timeout_s)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def python(lab: Lab, host: str, code: str) -> str:
    return out(lab, host, "python3", "-c", code, timeout_s=60)


def hears(lab: Lab, host: str, address: str) -> bool:
    return lab.execute(host, ["ping", "-q", "-c1", "-W1", address]).returncode == 0


def ssh(lab: Lab, host: str, *command: str, timeout_s: float = 20) -> subprocess.CompletedProcess[str]:
    argv = ssh_argv(lab, lab.running(host), *command)
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL)


def rate_mbit(lab: Lab, sender: str, receiver: str, size: int) -> float:
    """What arrives per second of so many bytes sent from host to host."""
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit(python, lab, receiver, RECEIVE)
        python(lab, sender, SEND.format(to=lab.running(receiver).spec.address, size=size))
        return float(received.result())


def round_trip_ms(lab: Lab, host: str, address: str) -> float:
    answer = out(lab, host, "ping", "-q", "-c5", "-i0.2", address)
    return float(answer.rpartition(" = ")[2].split("/")[0])  # the quickest: the first waits for ARP as well


def test_a_host_is_a_whole_debian_with_its_own_systemd(lab: Lab) -> None:
    assert out(lab, "plain", "cat", "/proc/1/comm") == "systemd"
    assert out(lab, "plain", "hostname") == "plain"
    wait_until(
        lambda: lab.execute("plain", ["systemctl", "is-system-running"]).stdout.strip() == "running",
        "a running system",
        deadline_s=120,
    )
    assert out(lab, "plain", "systemctl", "--failed", "--no-legend", "--plain") == ""
    assert "VERSION_CODENAME=bookworm" in out(lab, "plain", "cat", "/etc/os-release")


def test_a_host_has_its_data_and_no_way_out(lab: Lab) -> None:
    assert out(lab, "plain", "cat", "/srv/edgefl/data/records.csv") == "1,2,3"
    assert out(lab, "plain", "ip", "route") == "10.78.0.0/24 dev eth0 proto kernel scope link src 10.78.0.13"
    assert out(lab, "plain", "cat", "/etc/resolv.conf") == ""


def test_hosts_hear_each_other_over_both_families_and_the_operator(lab: Lab) -> None:
    assert hears(lab, "plain", "10.78.0.1")
    assert hears(lab, "plain", SLOW.address)
    assert hears(lab, "plain", str(lab.running("slow").address6))


def test_ssh_works_with_host_key_checking_on(lab: Lab) -> None:
    done = ssh(lab, "slow", "id", "-un")
    assert (done.returncode, done.stdout) == (0, "root\n"), done.stderr


def test_ssh_refuses_a_host_that_shows_another_key(lab: Lab) -> None:
    known = lab.known_hosts.read_text()
    try:
        lab.known_hosts.write_text(f"{SLOW.address} {lab.running('plain').host_key}\n")
        done = ssh(lab, "slow", "true")
        assert done.returncode == 255
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr or "Host key verification failed" in done.stderr
    finally:
        lab.known_hosts.write_text(known)


def test_ssh_to_an_address_that_is_no_host_says_so(lab: Lab) -> None:
    proxy = [sys.executable, "-m", "edgefl.lab.nsproxy", str(lab.root), "10.78.0.99", "22"]
    done = subprocess.run(proxy, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "No route to host" in done.stderr


def test_no_address_of_the_lab_exists_in_the_machines_own_network(lab: Lab) -> None:
    assert "10.78.0." not in subprocess.run(["ip", "address"], capture_output=True, text=True, check=True).stdout


def test_a_host_cannot_use_more_memory_than_it_has(lab: Lab) -> None:
    assert lab.execute("slow", ["python3", "-c", "bytearray(400 << 20)"]).returncode == -signal.SIGKILL
    assert python(lab, "plain", "print(len(bytearray(400 << 20)))") == str(400 << 20)


def test_a_host_cannot_use_more_cpu_than_it_has(lab: Lab) -> None:
    assert float(python(lab, "slow", BURN)) < 0.6


def test_what_a_host_sends_is_limited_to_its_uplink(lab: Lab) -> None:
    assert 8 < rate_mbit(lab, "slow", "plain", 4 << 20) < 17.5


def test_a_far_host_answers_late_in_both_directions_and_at_its_rate(lab: Lab) -> None:
    assert 80 <= round_trip_ms(lab, "plain", FAR.address) < 120
    assert 3 < rate_mbit(lab, "far", "plain", 2 << 20) < 9


def test_limits_and_links_change_while_a_host_runs(lab: Lab) -> None:
    before = out(lab, "plain", "cat", "/proc/1/stat").split()[21]
    try:
        lab.create(replace(lab.running("plain").spec, cpu=0.3, latency_ms=20.0))
        assert float(python(lab, "plain", BURN)) < 0.4
        assert round_trip_ms(lab, "plain", "10.78.0.1") >= 40
    finally:
        lab.update(replace(lab.running("plain").spec, cpu=1.0, latency_ms=0.0))
    assert round_trip_ms(lab, "plain", "10.78.0.1") < 20
    assert out(lab, "plain", "cat", "/proc/1/stat").split()[21] == before


def test_what_a_host_is_cannot_change(lab: Lab) -> None:
    with pytest.raises(LabFailed, match="plain's address cannot change"):
        lab.update(replace(lab.running("plain").spec, address="10.78.0.44"))
    with pytest.raises(HostUnknown, match="no host 'nobody'"):
        lab.update(HostSpec("nobody", "10.78.0.45"))


def test_services_are_confined_by_the_hosts_systemd_and_firewall(lab: Lab) -> None:
    reach = ["python3", "-c", "import socket; socket.create_connection(('10.78.0.11', 22), 2)"]
    unit = ["systemd-run", "--wait", "--pipe", "--quiet", "-p"]
    assert lab.execute("plain", [*unit, "IPAddressAllow=any", *reach]).returncode == 0
    assert lab.execute("plain", [*unit, "IPAddressDeny=any", *reach]).returncode == 1
    big = ["python3", "-c", "bytearray(200 << 20)"]
    assert lab.execute("plain", [*unit, "MemoryMax=1G", *big]).returncode == 0
    assert lab.execute("plain", [*unit, "MemoryMax=64M", *big]).returncode != 0
    rules = "table inet t { chain out { type filter hook output priority 0; ip daddr 10.78.0.11 reject; }; }"
    assert lab.execute("plain", reach).returncode == 0
    assert lab.execute("plain", ["nft", "-f", "-"], rules).returncode == 0
    assert lab.execute("plain", reach).returncode == 1
    out(lab, "plain", "nft", "delete", "table", "inet", "t")


def test_a_partition_parts_two_hosts_and_no_others(lab: Lab) -> None:
    lab.partition("slow", "plain")
    lab.partition("slow", "plain")
    try:
        assert not hears(lab, "slow", PLAIN.address)
        assert not hears(lab, "plain", str(lab.running("slow").address6))
        assert hears(lab, "slow", FAR.address)
        assert hears(lab, "slow", "10.78.0.1")
    finally:
        lab.heal("plain", "slow")
    assert hears(lab, "slow", PLAIN.address)
    lab.heal("plain", "slow")


def test_a_cut_host_hears_nobody_until_it_is_joined(lab: Lab) -> None:
    for name, neighbour in (("plain", SLOW.address), ("far", PLAIN.address)):
        lab.cut(name)
        try:
            assert not hears(lab, name, neighbour)
        finally:
            lab.join(name)
        wait_until(partial(hears, lab, name, neighbour), f"{name} being heard again", deadline_s=60)


def test_a_frozen_host_hangs_but_its_kernel_answers(lab: Lab) -> None:
    lab.freeze("slow")
    try:
        assert hears(lab, "plain", SLOW.address)
        with dial(lab.root, SLOW.address, 22, timeout_s=1) as connection, pytest.raises(TimeoutError):
            connection.recv(4)
    finally:
        lab.thaw("slow")
    assert ssh(lab, "slow", "true").returncode == 0


def test_a_host_that_lost_power_boots_again_from_its_disk(lab: Lab) -> None:
    key = lab.running("plain").host_key
    out(lab, "plain", "sh", "-c", "echo kept >/var/lib/mark; touch /run/mark; sync")
    lab.kill("plain")
    state = lab.read("plain")
    assert state is not None
    assert not state.running
    with pytest.raises(LabFailed, match="plain does not run"):
        lab.execute("plain", ["true"])
    assert lab.start("plain").host_key == key
    assert out(lab, "plain", "cat", "/var/lib/mark") == "kept"
    assert lab.execute("plain", ["test", "-e", "/run/mark"]).returncode == 1
    assert ssh(lab, "plain", "true").returncode == 0


def test_a_namespace_that_was_made_half_is_made_anew(lab: Lab) -> None:
    """`ip netns add` writes the name first and mounts the namespace on it then; a Ctrl-C may fall between the two."""
    lab.kill("plain")
    capsule = Capsule(lab.root)
    capsule.run("umount", "/run/netns/plain")
    assert capsule.run("stat", "--format=%F", "/run/netns/plain") == "regular empty file\n"
    lab.start("plain")
    assert ssh(lab, "plain", "true").returncode == 0


def test_a_host_dies_without_limits_and_lives_again_within_them(lab: Lab) -> None:
    out(lab, "slow", "sh", "-c", "for _ in $(seq 40); do setsid sh -c 'while :; do :; done' >/dev/null 2>&1 & done")
    lab.kill("slow")
    lab.start("slow")
    assert float(python(lab, "slow", BURN)) < 0.6


def test_a_reboot_keeps_the_disk_and_ends_what_ran(lab: Lab) -> None:
    out(lab, "slow", "sh", "-c", "echo kept >/var/lib/mark; touch /run/mark")
    lab.reboot("slow")
    assert out(lab, "slow", "cat", "/var/lib/mark") == "kept"
    assert lab.execute("slow", ["test", "-e", "/run/mark"]).returncode == 1


def test_a_host_that_powered_itself_off_does_not_run_and_can_be_started(lab: Lab) -> None:
    lab.execute("plain", ["systemctl", "poweroff", "--no-block"])
    wait_until(lambda: not lab.hosts()[-1].running, "the end of plain", deadline_s=120)
    assert lab.start("plain").running


def test_two_processes_that_create_the_same_hosts_at_once_make_each_once(lab: Lab) -> None:
    specs = [HostSpec(f"twin-{n}", f"10.78.0.{20 + n}", memory_mb=256) for n in (1, 2)]
    create_together(lab, specs, specs[::-1], specs)
    try:
        assert {state.spec.name for state in lab.hosts() if state.running} >= {"twin-1", "twin-2"}
        assert lab.known_hosts.read_text().count("twin-1 ") == 1
        assert ssh(lab, "twin-2", "hostname").stdout == "twin-2\n"
    finally:
        for spec in specs:
            lab.delete(spec.name)
    assert lab.read("twin-1") is None
    assert "twin" not in lab.known_hosts.read_text()
    assert "twin-1" not in Capsule(lab.root).run("ip", "netns", "list")


def test_a_lab_on_another_network_does_not_mix_with_this_one(lab: Lab) -> None:
    with pytest.raises(LabFailed, match=r"stands on 10\.78\.0\.1/24"):
        Lab(lab.root, IPv4Interface("10.79.0.1/24")).create(HostSpec("other", "10.79.0.11"))
    assert Lab(lab.root).network == NETWORK


def test_a_crashed_lab_is_noticed_and_its_hosts_boot_again_from_their_disks(lab: Lab) -> None:
    out(lab, "plain", "sh", "-c", "echo survived >/var/lib/crash; sync")
    process = Process.load(lab.root / CAPSULE_FILE)
    assert process is not None
    os.kill(process.pid, 9)
    wait_until(lambda: not any(state.running for state in lab.hosts()), "the end of every host", deadline_s=20)
    with pytest.raises(LabFailed, match="is not running"):
        dial(lab.root, PLAIN.address, 22)
    assert lab.start("plain").running
    assert out(lab, "plain", "cat", "/var/lib/crash") == "survived"
    assert not lab.hosts()[0].running
    for name in ("slow", "far"):
        lab.start(name)
    assert all(state.running for state in lab.hosts())


def test_a_network_that_the_kernel_refuses_is_said_at_once(tmp_path: Path) -> None:
    capsule, began = Capsule(tmp_path), time.monotonic()
    with pytest.raises(LabFailed, match=r"the lab's network cannot be made: .*Unknown device type"):
        capsule.start("ip link add nonsense type nonsense")
    assert time.monotonic() - began < 10  # the network is waited for so long where nothing is said
    capsule.stop()
    assert traces(tmp_path) == []


def test_deleting_the_last_host_ends_the_labs_processes(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", IPv4Interface("10.79.0.1/24"))
    try:
        lab.create(HostSpec("only", "10.79.0.11", memory_mb=256))
        assert Capsule(lab.root).is_alive
        lab.delete("only")
        lab.delete("only")
        assert not Capsule(lab.root).is_alive
        assert traces(lab.root) == []
    finally:
        lab.down()


def test_down_leaves_nothing_behind(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", IPv4Interface("10.79.0.1/24"))
    mounts, instances = Path("/proc/self/mountinfo").read_text(), INSTANCES.read_text()
    others = (machine.RUN / "labs.json").exists()
    lab.create(HostSpec("near", "10.79.0.11", memory_mb=256))
    lab.create(HostSpec("far", "10.79.0.12", memory_mb=256, latency_ms=5))
    lab.kill("near")
    assert int(INSTANCES.read_text()) >= 4096
    began = time.monotonic()
    lab.down()
    assert time.monotonic() - began < 10
    assert traces(lab.root) == []
    assert not lab.root.exists()
    assert Path("/proc/self/mountinfo").read_text() == mounts
    if not others:
        assert INSTANCES.read_text() == instances
        assert not machine.RUN.exists()
        assert not list(Path("/sys/fs/cgroup").glob("**/edgefl"))
    lab.down()


def traces(root: Path) -> list[str]:
    """Processes and control groups that speak of the lab in `root`."""
    found = [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/edgefl/{Capsule(root).id}")]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(root) in (process / "cmdline").read_text():
                found.append(str(process))
    return found


def test_hosts_that_are_erased_at_once_do_not_stumble_over_each_other(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", IPv4Interface("10.79.0.1/24"))
    specs = [HostSpec(f"brief-{number}", f"10.79.0.{10 + number}") for number in range(6)]
    try:
        create_together(lab, specs)
        together(lab, "lab.delete(spec.name)", *([spec] for spec in specs))
        assert lab.hosts() == []
    finally:
        lab.down()
