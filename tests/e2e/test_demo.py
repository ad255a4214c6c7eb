"""What the demo promises: a trained model, a named attacker, budgets kept, isolation proven.

Booted, provisioned and trained once by the command that a user would type, cut short on the way and again when it is taken down.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edgefl import layout
from edgefl.lab.capsule import Capsule
from tests.monitor.test_ecs import FIELDS
from tests.operations.test_summary import SHAPE, check

from .conftest import Fleet, edgefl, in_background, interrupted, kept, last_object

pytestmark = pytest.mark.e2e

BARE = "edge-02"
"""The device whose host begins with nothing, so that the whole bundle is pushed to it as to a real one."""
UNITS = {
    "coordinator": ["edgefl-superlink", "edgefl-superexec", "edgefl-monitor", "edgefl-gate"],
    "edge-01": ["edgefl-supernode", "edgefl-superexec"],
}
HOSTS = ("coordinator", *(f"edge-{n:02}" for n in range(1, 9)))
SSH = {"tcp 0.0.0.0:22", "tcp [::]:22"}
LISTENERS = {
    "coordinator": {
        *SSH,
        f"tcp 0.0.0.0:{layout.FLEET_PORT}",
        f"tcp 0.0.0.0:{layout.API_PORT}",
        f"tcp 127.0.0.1:{layout.SUPERLINK_PORT}",
    },
    "edge-01": {*SSH, f"tcp 127.0.0.1:{layout.SUPERNODE_PORT}"},
}
"""Everything at which somebody listens on a host of a site that has nothing beside what trains."""
STARTING = re.compile(r"Configuration file is valid|\[(NOTICE|WARNING)\] +\(\d+\) : ")
"""What haproxy says when it starts and ends, before and after its log has a format."""


@dataclass(frozen=True)
class Demo(Fleet):
    """The demo's site after its run, and what the command said."""

    said: subprocess.CompletedProcess[str]

    @property
    def result(self) -> dict[str, Any]:
        return dict(json.loads((self.directory / ".edgefl" / "result.json").read_text()))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    directory = tmp_path_factory.mktemp("demo") / "site"
    directory.mkdir()
    shipped = (Path(__file__).parents[2] / "sites" / "demo" / "site.yaml").read_text()
    line = f"name: {BARE}, data: data/{BARE}, "
    assert line in shipped
    (directory / "site.yaml").write_text(shipped.replace(line, f"{line}preloaded: false, "))
    mounts = Path("/proc/self/mountinfo").read_text()
    command = ("demo", str(directory), "--json")
    try:
        with in_background(*command) as going:
            cut = interrupted(going, "infrastructure", lambda event: event["subject"])
        assert cut == 130, "it was cut short while its hosts were made"
        said = edgefl(*command, timeout_s=1800)
        assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-4000:]
    except BaseException:
        edgefl("down", "--site", str(directory), "--yes")
        raise
    yield Demo(directory, said)
    taken_down(Demo(directory, said), mounts)


def taken_down(demo: Demo, mounts: str) -> None:
    """A `down` that is cut short when the first hosts are gone, then the same command: nothing is left on this machine.

    mounts: those of the machine before anything was made.
    """
    lab = demo.lab.root
    assert traces(demo.directory, lab), "what is looked for below can be seen"
    down = ("down", "--site", str(demo.directory), "--yes", "--json")
    try:
        with in_background(*down) as going:
            assert interrupted(going, "infrastructure", lambda event: event["type"] == "finished" and event["subject"]) == 130
    finally:
        done = edgefl(*down)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert last_object(done)["down"] is True
    assert traces(demo.directory, lab) == []
    assert not lab.exists()
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert (demo.directory / ".edgefl" / "pki").is_dir(), "the operator's authority stays"
    assert edgefl(*down).returncode == 0, "where nothing stands there is nothing to undo"


def traces(directory: Path, lab: Path) -> list[str]:
    """Processes that speak of the site, with what they do and whose children they are, and control groups of its lab."""
    found = [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/edgefl/{Capsule(lab).id}")]
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            said = (process / "cmdline").read_text().replace("\0", " ")
            if str(directory) in said:
                parent = (process / "stat").read_text().rpartition(") ")[2].split()[1]
                found.append(f"{process.name}, child of {parent}: {said}")
    return found


def test_the_result_that_lies_on_disk_has_exactly_the_promised_shape(demo: Demo) -> None:
    check(demo.result, SHAPE)
    assert len(demo.result["devices"]) == 8


def test_the_attacked_run_reaches_nearly_the_accuracy_of_the_clean_one(demo: Demo) -> None:
    run = demo.result["run"]
    assert run["rounds"] == 10
    assert run["accuracy"] >= run["clean_floor"] > 0.7


def test_the_compromised_device_is_named_and_no_honest_one_is(demo: Demo) -> None:
    flagged = {device["name"]: device["flags"] for device in demo.result["devices"] if device["flags"]}
    assert list(flagged) == demo.result["compromised"] == ["edge-07"]
    assert min(flag["round"] for flag in flagged["edge-07"]) in (3, 4)


def test_every_device_stays_within_its_budget(demo: Demo) -> None:
    for device in demo.result["devices"]:
        assert 0 < device["epsilon"]["spent"] <= device["epsilon"]["limit"] == 8.0


def test_every_device_is_proven_isolated_and_has_a_short_certificate(demo: Demo) -> None:
    for device in demo.result["devices"]:
        assert device["isolation"] is True
        left = datetime.fromisoformat(device["cert_expires_at"]) - datetime.now(UTC)
        assert timedelta(hours=22) < left <= timedelta(hours=24)


def test_the_model_arrives_whole(demo: Demo) -> None:
    from safetensors.numpy import load_file

    file = last_object(demo.said)["model"]
    assert Path(file).stem == demo.result["run"]["id"]
    tensors = load_file(file)
    assert tensors
    assert all(tensor.size for tensor in tensors.values())


def test_the_bundle_was_pushed_to_the_device_that_had_nothing(demo: Demo) -> None:
    def own(host: str) -> list[str]:
        disk = demo.directory / ".edgefl" / "lab" / "hosts" / host / "upper"
        return [
            path.name for path in disk.glob("opt/edgefl/venvs/*/lib/python3.*/site-packages/*") if path.name in {"flwr", "torch"}
        ]

    assert sorted(own(BARE)) == ["flwr", "torch"]
    assert own("edge-01") == []


def test_updates_travel_as_small_as_the_site_says(demo: Demo) -> None:
    rows = last_object(demo.edgefl("rounds", "--json"))["rounds"]
    assert len(rows) == 10
    assert all(row["ratio"]["up"] > 3.5 for row in rows)


def test_a_second_up_changes_nothing(demo: Demo) -> None:
    again = demo.edgefl("up", "--json")
    assert again.returncode == 0, again.stdout[-3000:]
    said = [json.loads(line) for line in again.stdout.splitlines()]
    assert [line for line in said if line.get("changed") and line.get("type")] == []
    assert last_object(again)["changed"] is False


def test_the_plan_of_a_converged_site_is_empty_and_says_so(demo: Demo) -> None:
    planned = demo.edgefl("plan", "--json")
    assert planned.returncode == 0, planned.stdout[-3000:]
    assert last_object(planned) == {"site": "demo", "changed": False, "changes": 0}


def test_status_names_the_flag_and_exits_degraded(demo: Demo) -> None:
    status = demo.edgefl("status", "--json")
    assert status.returncode == 70, status.stdout[-2000:] + status.stderr
    assert "edge-07" in status.stdout


def test_the_logs_of_every_host_come_merged_and_the_coordinators_by_default(demo: Demo) -> None:
    said = demo.on("edge-01", "journalctl", "--no-pager", "--output=cat", "--unit=edgefl-supernode").stdout.splitlines()
    told = demo.edgefl("logs", "--all", "--lines", "5000", "--json")
    assert told.returncode == 0, told.stdout[-2000:] + told.stderr
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    units = {(line["host"], line["unit"]) for line in lines}
    silent = {("coordinator", "edgefl-monitor")}  # while all is well
    assert units >= {(host, unit) for host in UNITS for unit in UNITS[host]} - silent
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    fields = [json.loads(text) for text in said if text.startswith("{")]
    assert "flwr" in {one["log.logger"] for one in fields}, "what Flower says is fields, too"
    warned = {one["message"] for one in fields if one["log.level"] == "warning"}
    assert warned <= {line["message"] for line in lines if line["level"] == "warning"}, "with the level that journald knows"

    own = demo.edgefl("logs", "--lines", "5", "--json")
    assert own.returncode == 0, own.stdout[-2000:] + own.stderr
    assert [json.loads(line)["host"] for line in own.stdout.splitlines()] == ["coordinator"] * 5


def test_every_line_of_every_service_of_every_host_is_fields_of_the_schema(demo: Demo) -> None:
    spoke = set()
    for host in HOSTS:
        asked = ("journalctl", "--no-pager", "--all", "--output=json", "--output-fields=_SYSTEMD_UNIT,MESSAGE")
        whole = map(json.loads, demo.on(host, *asked).stdout.splitlines())
        lines = [(str(line.get("_SYSTEMD_UNIT")), line["MESSAGE"]) for line in whole]
        ours = [(unit, said) for unit, said in lines if "edgefl" in unit]
        spoke |= {(host, unit) for unit, _ in ours}
        text = [(unit, said) for unit, said in ours if not (isinstance(said, str) and said.startswith("{"))]
        assert [(unit, said) for unit, said in text if unit != "edgefl-gate.service" or not STARTING.match(said)] == [], host
        for unit, said in ours:
            if (unit, said) not in text:
                fields = json.loads(said)
                assert fields.keys() <= FIELDS.keys(), (host, unit, said)
                assert {"@timestamp", "log.level", "message", "ecs.version"} <= fields.keys(), (host, unit, said)
    assert spoke >= {(host, f"edgefl-{name}.service") for host in HOSTS[1:] for name in ("supernode", "superexec")}
    assert spoke >= {("coordinator", f"edgefl-{name}.service") for name in ("superlink", "superexec", "gate")}


@pytest.mark.parametrize("host", list(LISTENERS))
def test_what_the_site_does_not_ask_for_has_no_process_and_no_port(demo: Demo, host: str) -> None:
    assert demo.listeners(host) == LISTENERS[host]
    assert demo.watchers(host) == []
    for place in ("/etc/edgefl/observability", "/usr/bin/prometheus", "/usr/bin/prometheus-node-exporter"):
        assert demo.on(host, "test", "-e", place).returncode == 1, place


def test_the_doctor_finds_a_fleet_that_stands_healthy(demo: Demo) -> None:
    examined = demo.edgefl("doctor", "--json")
    assert examined.returncode == 0, examined.stdout[-3000:] + examined.stderr
    said = last_object(examined)
    assert said["healthy"] is True
    assert {finding["host"] for finding in said["findings"]} == {"coordinator", *(f"edge-{n:02}" for n in range(1, 9))}
    assert {finding["verdict"] for finding in said["findings"]} == {"good"}


def test_the_playbook_alone_finds_nothing_to_change(demo: Demo) -> None:
    """As CI would run it: no command of edgefl's, the inventory that it rendered, the repository's own ansible.cfg."""
    root = Path(__file__).parents[2]
    inventory = demo.directory / ".edgefl" / "ansible" / "inventory.json"
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, "playbooks/site.yml"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    recap = dict(re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", done.stdout, re.MULTILINE))
    assert recap == dict.fromkeys(["coordinator", *(f"edge-{n:02}" for n in range(1, 9))], "0")


@pytest.mark.parametrize("host", list(UNITS))
def test_every_service_is_hardened(demo: Demo, host: str) -> None:
    for unit in UNITS[host]:
        shown = demo.on(host, "systemd-analyze", "security", "--no-pager", f"{unit}.service").stdout
        exposure = re.search(r"exposure level for \S+: ([\d.]+)", shown)
        assert exposure, shown[-500:]
        assert float(exposure[1]) <= 3.0, f"{host} {unit}: {exposure[1]}"


@pytest.mark.parametrize("host", list(UNITS))
def test_every_service_runs_as_its_own_unprivileged_user(demo: Demo, host: str) -> None:
    users = []
    for unit in UNITS[host]:
        user = demo.on(host, "systemctl", "show", "-P", "User", f"{unit}.service").stdout.strip()
        assert user.startswith("edgefl-")
        users.append(user)
    assert len(set(users)) == len(users)


def test_no_secret_lies_in_state_logs_or_arguments(demo: Demo) -> None:
    secrets = {}
    for host, files in {
        "coordinator": ["/etc/edgefl/identity/superlink.key", "/etc/edgefl/identity/gate.pem", "/etc/edgefl/superexec.secret"],
        "edge-01": [
            "/etc/edgefl/identity/device.key",
            "/etc/edgefl/identity/node.key",
            "/etc/edgefl/signing/signer.key",
            "/etc/edgefl/superexec.secret",
        ],
    }.items():
        for file in files:
            text = demo.on(host, "cat", file).stdout
            assert text.strip(), f"{host}:{file}"
            body = [line for line in text.splitlines() if len(line) >= 32 and "CERTIFICATE" not in line]
            secrets[f"{host}:{file}"] = (
                body[1] if file.endswith((".key", ".pem")) and len(body) > 1 else text.strip().splitlines()[0]
            )
    state = demo.directory / ".edgefl"
    places = {path: path.read_bytes() for path in kept(state) if path.is_file() and path.suffix != ".whl"}
    for host in ("coordinator", "edge-01"):
        places[Path(host) / "journal"] = demo.on(host, "journalctl", "--no-pager", "-o", "cat").stdout.encode()
        places[Path(host) / "arguments"] = demo.on(host, "sh", "-c", "cat /proc/*/cmdline").stdout.encode()
    found = [
        f"{name} in {place}" for name, secret in secrets.items() for place, text in places.items() if secret.encode() in text
    ]
    assert found == []
