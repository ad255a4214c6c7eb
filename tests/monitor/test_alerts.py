"""What fires, when, and whom it reaches: promtool on every rule, and the whole way through real programs."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer

import pytest
import yaml

from edgefl import layout
from edgefl.events.schema import IsolationProven
from tests.monitor import watching
from tests.monitor.conftest import wait_for

CASES = Path(__file__).with_name("alerts")
RULES = watching.ROLE / "files" / "alerts.yml"


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.glob("*.yml")))
def test_each_alert_fires_and_ends_when_it_must(case, tmp_path, promtool):
    shutil.copy(CASES / case, tmp_path)
    shutil.copy(RULES, tmp_path)
    done = subprocess.run([promtool, "test", "rules", case], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_alert_is_without_a_test_that_sees_it_fire_and_one_that_sees_it_silent():
    known = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    fired, silent = set(), set()
    for path in CASES.glob("*.yml"):
        for case in yaml.safe_load(path.read_text())["tests"]:
            for seen in case["alert_rule_test"]:
                (fired if seen.get("exp_alerts") else silent).add(seen["alertname"])
    assert (fired, silent) == (known, known)


def test_every_alert_says_what_to_do_next():
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"warning", "critical"}, rule["alert"]
            assert set(rule["annotations"]) == {"summary", "next"}, rule["alert"]


@pytest.mark.parametrize("accuracy_low", [None, 0.5])
@pytest.mark.parametrize("kinds", [set(), {"slack"}, {"slack", "email", "webhook"}])
def test_what_the_role_renders_is_what_the_programs_accept(accuracy_low, kinds, tmp_path, promtool, programs):
    receivers = {
        "slack": {"channel": '#a "b"'},
        "email": {"to": ["a@x", "b@x"], "sender": "c@x", "relay": "x:25", "tls": True, "username": "c"},
        "webhook": {"url": "https://x/y", "token_file": "there"},
    }
    (tmp_path / "secrets").mkdir()
    for name in ("scraper.crt", "scraper.key", "gate.crt", "secrets/slack", "secrets/email", "secrets/webhook"):
        (tmp_path / name).touch()
    watching.render(
        tmp_path,
        observability_receivers={kind: receivers[kind] for kind in kinds},
        observability_accuracy_low=accuracy_low,
        observability_identity=str(tmp_path),
        observability_host="coordinator",
        observability_site="clinic",
    )
    for command in ([promtool, "check", "config", "prometheus.yml"], [programs.amtool, "check-config", "alertmanager.yml"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    check = [promtool, "check", "rules", "thresholds.yml"]
    recorded = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"{1 if accuracy_low else 0} rules found" in recorded.stdout


class Relay(StreamRequestHandler):
    """As much of SMTP as a message needs."""

    got: list[str]

    def handle(self) -> None:
        self.say("220 relay")
        while line := self.rfile.readline().decode().strip():
            match line.split()[0].upper():
                case "EHLO":
                    self.say("250-relay\r\n250 AUTH PLAIN")
                case "AUTH":
                    self.got.append(line)
                    self.say("235 welcome")
                case "DATA":
                    self.say("354 go on")
                    lines = iter(lambda: self.rfile.readline().decode(), ".\r\n")
                    self.got.append("".join(lines))
                    self.say("250 taken")
                case "QUIT":
                    self.say("221 bye")
                    return
                case _:
                    self.say("250 fine")

    def say(self, answer: str) -> None:
        self.wfile.write(answer.encode() + b"\r\n")


@pytest.mark.slow
def test_a_fault_is_told_to_slack_mail_and_a_service_and_so_is_its_end(journal, gate, identities, programs, tmp_path):
    at, alerts_at, nobody = watching.free(), watching.free(), watching.free()
    relay = type("OneRelay", (Relay,), {"got": []})
    with watching.receiver() as (receiver, got), TCPServer(("127.0.0.1", 0), relay) as mail:
        threading.Thread(target=mail.serve_forever, daemon=True).start()
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "slack").write_text(f"http://{receiver}/services/T0/B0/secret\n")
        (tmp_path / "secrets" / "email").write_text("hunter2")
        (tmp_path / "secrets" / "webhook").write_text("token-7")
        watching.render(
            tmp_path,
            observability_receivers={
                "slack": {"channel": "#federation"},
                "email": {
                    "to": ["ops@clinic.example"],
                    "sender": "edgefl@clinic.example",
                    "relay": f"127.0.0.1:{mail.server_address[1]}",
                    "tls": False,
                    "username": "edgefl",
                },
                "webhook": {"url": f"http://{receiver}/own", "token_file": "there"},
            },
            observability_identity=str(identities),
            observability_monitor=f"{gate}:{layout.API_PORT}",
            observability_host="coordinator",
            observability_site="clinic",
            observability_interval="200ms",
            observability_group_wait="0s",
            observability_group_interval="300ms",
            observability_alertmanager_listen=alerts_at,
            observability_node_exporter_listen=nobody,
        )

        def proven(*reached: str) -> None:
            journal.append(
                IsolationProven(device="edge-02", probes=9, open_forbidden=reached, closed_required=[], proof_sha256="")
            )

        def heard(path: str, status: str) -> list[dict]:
            return [one.said for one in got if one.path == path and status in str(one.said)]

        proven()
        with (
            watching.alertmanager(programs.alertmanager, tmp_path, alerts_at),
            watching.prometheus(programs.prometheus, tmp_path, at) as asked,
        ):
            wait_for(lambda: asked.series('fl_isolation_proven{device="edge-02"} == 1'), "the first scrape")
            assert "EdgeflIsolationDrift" not in asked.firing()
            assert got == []
            proven("internet:443")
            wait_for(lambda: heard("/services/T0/B0/secret", "FIRING"), "Slack's word of the fault")
            wait_for(lambda: heard("/own", "firing"), "the service's word of the fault")
            wait_for(lambda: any("Subject: FIRING" in said for said in relay.got), "the mail about the fault")
            proven()
            wait_for(lambda: heard("/services/T0/B0/secret", "RESOLVED"), "Slack's word of its end")
            wait_for(lambda: any("Subject: RESOLVED" in said for said in relay.got), "the mail about its end")
        mail.shutdown()
    slack = heard("/services/T0/B0/secret", "FIRING")[0]
    assert slack["channel"] == "#federation"
    told = slack["attachments"][0]
    assert told["title"] == "FIRING: EdgeflIsolationDrift, clinic"
    assert told["text"].strip() == "edge-02 is not isolated as the site says (next: edgefl verify)"
    assert {one.authorization for one in got if one.path == "/own"} == {"Bearer token-7"}
    message = next(said for said in relay.got if "Subject: FIRING" in said)
    assert "edge-02 is not isolated as the site says (next: edgefl verify)" in message
    assert "hunter2" not in (tmp_path / "alertmanager.yml").read_text()
