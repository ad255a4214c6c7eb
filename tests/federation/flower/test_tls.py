"""Certificates that are replaced while connections begin, over real handshakes."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from edgefl.federation.flower import tls
from edgefl.federation.flower.supernode import Certificate
from edgefl.federation.hostconfig import Places
from edgefl.federation.loopback import certify
from edgefl.pki.authority import Authority
from edgefl.site.model import Site

UNDER_WAY = """\
import json, sys, threading, time
from pathlib import Path
from edgefl.federation.flower.supernode import Certificate
from edgefl.federation.flower.superlink import keep_certificate
from edgefl.federation.flower import superlink
from edgefl.federation.hostconfig import Places
from tests.federation.flower.test_tls import server, shake_hands

root = Path(sys.argv[1])
places = Places(root / "etc", root / "var")
superlink.RELOAD_S = 0.001
certificate, gate, answering = Certificate(places), server(places), server(places, asks=False)
pair = places.identity / "superlink.crt", places.identity / "superlink.key"
keep_certificate(answering, *pair)
began, hands, renewals = time.monotonic(), [0, 0, 0], [0, 0]

def goes_on():
    seconds = time.monotonic() - began
    return seconds < 4 or (seconds < 60 and min(*hands, sum(renewals)) <= 10)

def shake(who):
    while goes_on():
        shake_hands(certificate.context, gate)
        shake_hands(certificate.context, answering)
        hands[who] += 1

def renew(who):
    while goes_on():
        for path in (places.identity / "device.crt", pair[0]):
            path.touch()
        renewals[who] += certificate.reload()

threads = [threading.Thread(target=shake, args=(who,)) for who in range(len(hands))]
threads += [threading.Thread(target=renew, args=(who,)) for who in range(len(renewals))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps([min(hands), sum(renewals)]))
"""


def server(places: Places, *, asks: bool = True) -> ssl.SSLContext:
    """One that asks for the other's certificate as the gate does, or not, as the SuperLink."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(places.identity / "superlink.crt", places.identity / "superlink.key")
    context.load_verify_locations(places.authority)
    context.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_NONE
    return context


def shake_hands(asks: ssl.SSLContext, answers: ssl.SSLContext) -> tuple[str, ...]:
    """Serial numbers of the certificates that the one who asks and the one who answers show each other."""
    to_client, to_server, from_client, from_server = (ssl.MemoryBIO() for _ in range(4))
    client = asks.wrap_bio(to_client, from_client, server_hostname="localhost")
    host = answers.wrap_bio(to_server, from_server, server_side=True)
    for _ in range(4):
        for end in (client, host):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
            to_server.write(from_client.read())
            to_client.write(from_server.read())
    return tuple(str((end.getpeercert() or {}).get("serialNumber", "")) for end in (host, client))


@pytest.fixture
def places(places: Places, authority: Authority) -> Places:
    """A device's, with the certificate of a SuperLink that it calls beside its own."""
    certify(places.identity, "superlink", "superlink", "coordinator", authority)
    return places


def test_both_ends_show_what_was_renewed_from_the_next_connection_on(places: Places, authority: Authority) -> None:
    certificate, answers, answering = Certificate(places), server(places), tls.Answering()
    answers.sni_callback = answering
    before = shake_hands(certificate.context, answers)
    certify(places.identity, "device", "device", "edge-1", authority)
    certify(places.identity, "superlink", "superlink", "coordinator", authority)
    assert certificate.reload()
    answering.newest = server(places)
    after = shake_hands(certificate.context, answers)
    assert all(before)
    assert all(after)
    assert set(before).isdisjoint(after)


def test_a_root_that_went_is_not_trusted_any_more(places: Places, tmp_path: Path) -> None:
    certificate, answers = Certificate(places), server(places)
    assert shake_hands(certificate.context, answers)
    other = Authority.open(tmp_path / "other", site=Site.model_validate({"name": "demo", "devices": [{"name": "edge-1"}]}))
    places.authority.write_bytes(other.bundle())
    assert certificate.reload()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(certificate.context, answers)


@pytest.mark.slow
def test_certificates_that_are_renewed_while_connections_begin_end_nobody(places: Places, tmp_path: Path) -> None:
    command = [sys.executable, "-c", UNDER_WAY, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    hands, renewals = json.loads(done.stdout.splitlines()[-1])
    assert min(hands, renewals) > 10
