"""The way from a device to its coordinator, walked on the device as its service walks it: each step a check with its fix."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from edgefl import layout
from edgefl.fleet import ssh
from edgefl.fleet.finding import Finding
from edgefl.fleet.remote import program
from edgefl.infra.inventory import Host

if TYPE_CHECKING:
    from cryptography import x509

CHECKS = ("dns", "gate", "tls", "name", "admission", "superlink")
"""In the order in which one rests upon the other."""
Said = Mapping[str, Any]
"""What `remote/way.py` saw."""

_NOT_YET, _EXPIRED, _STRANGERS, _NAMES = 9, 10, (2, 18, 19, 20, 21), (62, 64)
"""OpenSSL's X509_V_ERR_…: what is wrong with a chain."""
_ALERTS = {
    "CERTIFICATE_EXPIRED": "has expired, by the coordinator's clock",
    "CERTIFICATE_REVOKED": "is revoked",
    "UNKNOWN_CA": "is from an authority that the gate does not know",
    "CERTIFICATE_REQUIRED": "was not shown",
    "BAD_CERTIFICATE": "is not one that the gate can read",
}
"""Alerts of RFC 8446, section 6.2: what the gate says of a device's certificate."""
_AWAY = {502, 503, 504}


async def walk(host: Host) -> Said:
    """Go the way. Raises the errors of `ssh.run`; a program that failed there is said as `failed`."""
    argv = ["python3", "-", layout.USER_NODE, str(layout.CONFIG), str(layout.FLEET_PORT)]
    done = await ssh.run(host, argv, program("way"))
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        return {"failed": reason[-1] if reason else f"status {done.returncode}"}


def judge(name: str, said: Said, coordinator: str) -> Iterator[Finding]:
    """Each step that was come to, good or bad; those behind a bad one are skipped."""
    for finding in _steps(name, said, coordinator):
        yield finding
        if finding.verdict == "bad":
            for check in CHECKS[CHECKS.index(finding.check) + 1 :]:
                yield Finding(name, check, "skipped", f"needs {finding.check}")
            return


def clock_skew_s(said: Said) -> float | None:
    """How far the device's clock is off the coordinator's, by the date that an answer of the SuperLink bears (resolution 1 s)."""
    try:
        date = parsedate_to_datetime(said["link_date"])
    except (KeyError, TypeError, ValueError):
        return None
    skew = float(said["link_at"]) - date.timestamp()
    return skew if skew < 0 else max(0.0, skew - 1)


def _steps(name: str, said: Said, coordinator: str) -> Iterator[Finding]:
    if "failed" in said:
        yield Finding(name, "dns", "bad", f"the way to the coordinator could not be tried: {said['failed']}", "edgefl up")
        return
    yield _dns(name, said)
    yield _gate(name, said, coordinator)
    yield _tls(name, said, coordinator)
    yield _name(name, said)
    yield _admission(name, said)
    if said.get("link") in _AWAY or not said.get("link"):
        found = f"the gate lets the device in and finds no SuperLink behind it ({said.get('link') or 'no answer'})"
        yield Finding(name, "superlink", "bad", found, f"edgefl doctor {coordinator}")
    else:
        yield Finding(name, "superlink", "good", "answers through the gate")


def _dns(name: str, said: Said) -> Finding:
    if "unresolved" in said:
        fix = "give the coordinator an IP address in site.yaml, or the hosts a resolver in `isolation.dns`; then edgefl up"
        return Finding(name, "dns", "bad", f"{said['address']} does not resolve: {said['unresolved']}", fix)
    found = f"{said['address']} is {said['resolved']}" if said["address"] != said["resolved"] else "not needed: an address"
    return Finding(name, "dns", "good", found)


def _gate(name: str, said: Said, coordinator: str) -> Finding:
    """Whether the gate's port answers the service, and who stands in the way: this host's wall, the wire, or the coordinator."""
    place, outcome = f"{said['resolved']}:{said['port']}", said["tcp"]
    if outcome == "connected":
        return Finding(name, "gate", "good", f"{place} answers {said['user'] or 'the service'}")
    if outcome == "refused" and said["left"] is not False:
        return Finding(name, "gate", "bad", f"nobody listens at {place}: the gate does not run", f"edgefl doctor {coordinator}")
    if said["neighbour"] in {"FAILED", "INCOMPLETE"}:
        found = f"nobody has {said['resolved']} on this host's network: {coordinator} is off, or cut off"
        return Finding(name, "gate", "bad", found, f"edgefl doctor {coordinator}")
    if said["left"] is False:
        found = f"this host's own firewall does not let {said['user'] or 'the service'} to {place} ({outcome})"
        return Finding(name, "gate", "bad", found, "edgefl up puts its walls right")
    found = f"{place} does not answer ({outcome}); packets leave this host: lost on the way, or at {coordinator}'s firewall"
    return Finding(name, "gate", "bad", found, f"edgefl doctor {coordinator}; is {place} open between the two?")


def _tls(name: str, said: Said, coordinator: str) -> Finding:
    if "identity" in said:
        return Finding(name, "tls", "bad", f"the device's own identity cannot be used: {said['identity']}", "edgefl up")
    if "no_tls" in said:
        return Finding(
            name, "tls", "bad", f"the port answers, but not with TLS: {said['no_tls']}", f"edgefl doctor {coordinator}"
        )
    code, shown = said["verified"], _certificate(said["shown"])
    if code == 0 or code in _NAMES:
        return Finding(name, "tls", "good", "the gate's certificate is of the site's authority")
    if code == _EXPIRED:
        when = f" on {shown.not_valid_after_utc:%Y-%m-%d %H:%M} UTC" if shown else ""
        return Finding(name, "tls", "bad", f"the gate's certificate expired{when}, by this device's clock", "edgefl up renews it")
    if code == _NOT_YET:
        when = f" only from {shown.not_valid_before_utc:%Y-%m-%d %H:%M} UTC" if shown else ""
        return Finding(name, "tls", "bad", f"the gate's certificate holds{when or ' not yet'}", "check the clocks of both hosts")
    if code in _STRANGERS:
        who = f": it was issued by {shown.issuer.rfc4514_string()}" if shown else ""
        found = f"the gate's certificate is not of the authority that this device knows{who}"
        return Finding(name, "tls", "bad", found, f"edgefl up; if it stays so, who answers at {said['resolved']}?")
    return Finding(name, "tls", "bad", f"the gate's certificate is refused: {said['unverified']}", "edgefl up")


def _name(name: str, said: Said) -> Finding:
    if said["verified"] == 0:
        return Finding(name, "name", "good", f"the gate's certificate is for {said['address']}")
    names = ", ".join(_names(_certificate(said["shown"]))) or "nobody"
    found = f"the gate's certificate is for {names}, not for {said['address']}"
    return Finding(name, "name", "bad", found, "edgefl up issues one for the coordinator's address")


def _admission(name: str, said: Said) -> Finding:
    """Whether the gate takes the device's certificate: TLS alerts say no, and so do two of its own answers."""
    if not said["entry"]:
        alert = str(said.get("alert", ""))
        meaning = next((meaning for word, meaning in _ALERTS.items() if word in alert), "")
        found = (
            f"the gate refuses the device's certificate: it {meaning}" if meaning else f"the gate ended the connection: {alert}"
        )
        fix = f"edgefl devices {name} says why" if "REVOKED" in alert else "edgefl up renews it"
        return Finding(name, "admission", "bad", found, fix)
    if said["entry"] in _AWAY:
        found = "the gate turns the device away: its certificate is revoked, or it is quarantined"
        return Finding(name, "admission", "bad", found, f"edgefl devices {name} says why")
    if said["entry"] == 403:
        return Finding(name, "admission", "bad", "the gate does not take its certificate for a device's", "edgefl up")
    return Finding(name, "admission", "good", "the gate takes the device's certificate")


def _certificate(pem: str) -> x509.Certificate | None:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return None


def _names(certificate: x509.Certificate | None) -> list[str]:
    from cryptography import x509

    if certificate is None:
        return []
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(entry.value) for entry in names if isinstance(entry, x509.DNSName | x509.IPAddress)]
