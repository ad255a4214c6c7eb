"""What fires, when, and whom it reaches: promtool on every rule, and the whole way through real programs."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest
import yaml

from edgefl import layout
from edgefl.events.schema import IsolationProven
from edgefl.site.observability import Email
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
    """As much of SMTP as a message needs. tls: with what it takes STARTTLS (RFC 3207); None where it has none."""

    tls: ssl.SSLContext | None
    asked: list[str]
    got: list[str]

    def handle(self) -> None:
        self.say("220 relay")
        while line := self.rfile.readline().decode().strip():
            self.asked.append(line)
            match line.split()[0].upper():
                case "EHLO":
                    offers = ["relay", *(["STARTTLS"] if self.tls else []), "AUTH PLAIN"]
                    self.say("\r\n".join([*(f"250-{one}" for one in offers[:-1]), f"250 {offers[-1]}"]))
                case "STARTTLS":
                    self.say("220 go on")
                    if not self.secured():
                        return
                case "AUTH":
                    self.got.append(line)
                    self.say("235 welcome")
                case "DATA":
                    self.say("354 go on")
                    lines = iter(lambda: self.rfile.readline().decode(), ".\r\n")
                    self.got.append(("over TLS\n" if isinstance(self.connection, ssl.SSLSocket) else "") + "".join(lines))
                    self.say("250 taken")
                case "QUIT":
                    self.say("221 bye")
                    return
                case _:
                    self.say("250 fine")

    def secured(self) -> bool:
        """Whether the caller takes this relay's certificate; all that follows is told over TLS then."""
        assert self.tls is not None
        try:
            self.connection = self.request = self.tls.wrap_socket(self.connection, server_side=True)
        except OSError:
            return False
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        return True

    def say(self, answer: str) -> None:
        self.wfile.write(answer.encode() + b"\r\n")


@contextmanager
def mail_relay(certificate: Path | None = None) -> Iterator[tuple[str, type[Relay]]]:
    """A relay until the block ends: its address, and what it was asked and got. certificate: its own, with its key."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
    if tls:
        tls.load_cert_chain(certificate)
    relay = type("OneRelay", (Relay,), {"tls": tls, "asked": [], "got": []})
    with ThreadingTCPServer(("127.0.0.1", 0), relay) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", relay
        server.shutdown()


def email(relay: str, **more: object) -> dict[str, object]:
    """A receiver as site.yaml has it, with the defaults of what it leaves out."""
    said = {"to": ["ops@clinic.example"], "sender": "edgefl@clinic.example", "relay": relay, "username": "edgefl", **more}
    return Email.model_validate({**said, "password_file": "there"}).model_dump(mode="json")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["STARTTLS", "STARTTLS by a stranger", "none", "none, and the site wants none"])
def test_a_mail_goes_over_tls_or_not_at_all_unless_the_site_says_so(case, identities, programs, tmp_path):
    offers, at = case.startswith("STARTTLS"), watching.free()
    arrives = case in {"STARTTLS", "none, and the site wants none"}
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "email").write_text("hunter2")
    alert = [{"labels": {"alertname": "EdgeflSuperlinkDown", "site": "clinic"}, "annotations": {"summary": "it is away"}}]
    with mail_relay(identities / "gate.pem" if offers else None) as (address, relay):
        watching.render(
            tmp_path,
            observability_receivers={"email": email(address, **({"tls": False} if case.endswith("wants none") else {}))},
            observability_host="coordinator",
            observability_site="clinic",
            observability_group_wait="0s",
        )
        trusts = tmp_path / "nobody" if case.endswith("stranger") else identities / "ca.crt"
        with watching.alertmanager(programs.alertmanager, tmp_path, at, trusts=trusts):
            said = {"Content-Type": "application/json"}
            fired = urllib.request.Request(f"http://{at}/api/v2/alerts", json.dumps(alert).encode(), said)
            urllib.request.urlopen(fired, timeout=10).close()

            def refused() -> bool:
                with urllib.request.urlopen(f"http://{at}/metrics", timeout=10) as told:
                    lines = [line for line in told.read().decode().splitlines() if 'failed_total{integration="email"}' in line]
                return any(float(line.split()[-1]) > 0 for line in lines)

            wait_for(lambda: relay.got[1:] if arrives else refused(), "the mail, or why there is none")
    if arrives:
        assert relay.got[1].startswith("over TLS") is offers
        assert "Subject: FIRING: EdgeflSuperlinkDown, clinic" in relay.got[1]
    else:
        assert relay.asked, "it was called"
        assert relay.got == []
        assert {line.split()[0] for line in relay.asked} <= {"EHLO", "STARTTLS", "QUIT"}


@pytest.mark.slow
def test_a_fault_is_told_to_slack_mail_and_a_service_and_so_is_its_end(journal, gate, identities, programs, tmp_path):
    at, alerts_at, nobody = watching.free(), watching.free(), watching.free()
    with watching.receiver() as (receiver, got), mail_relay(identities / "gate.pem") as (mail, relay):
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "slack").write_text(f"http://{receiver}/services/T0/B0/secret\n")
        (tmp_path / "secrets" / "email").write_text("hunter2")
        (tmp_path / "secrets" / "webhook").write_text("token-7")
        watching.render(
            tmp_path,
            observability_receivers={
                "slack": {"channel": "#federation"},
                "email": email(mail),
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
            watching.alertmanager(programs.alertmanager, tmp_path, alerts_at, trusts=identities / "ca.crt"),
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
            wait_for(lambda: heard("/own", "resolved"), "the service's word of its end")
            wait_for(lambda: any("Subject: RESOLVED" in said for said in relay.got), "the mail about its end")
    slack = heard("/services/T0/B0/secret", "FIRING")[0]
    assert slack["channel"] == "#federation"
    told = slack["attachments"][0]
    assert told["title"] == "FIRING: EdgeflIsolationDrift, clinic"
    assert told["text"].strip() == "edge-02 is not isolated as the site says (next: edgefl verify)"
    assert {one.authorization for one in got if one.path == "/own"} == {"Bearer token-7"}
    told = heard("/own", "resolved")[-1]
    assert (told["status"], [one["status"] for one in told["alerts"]]) == ("resolved", ["resolved"])
    assert {"alertname": "EdgeflIsolationDrift", "device": "edge-02"}.items() <= told["commonLabels"].items()
    message = next(said for said in relay.got if "Subject: FIRING" in said)
    assert message.startswith("over TLS")
    assert "edge-02 is not isolated as the site says (next: edgefl verify)" in message
    for secret in ("hunter2", "token-7", "T0/B0/secret"):
        for file in ("alertmanager.yml", "prometheus.yml", "alertmanager.log", "prometheus.log"):
            assert secret not in (tmp_path / file).read_text(), (secret, file)
