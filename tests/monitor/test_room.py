"""Room at the gate: devices that open all that they can fill their own shares, and nobody else's; a real haproxy."""

from __future__ import annotations

import http.client
import resource
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from edgefl import layout
from tests.monitor.conftest import DEVICE_ADDRESSES, WATCHER_ADDRESS, wait_for

pytestmark = pytest.mark.slow

SHARE = 16
ALONE, SHARED = DEVICE_ADDRESSES[:2]


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """Connections that an attacker keeps until the test ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with ExitStack() as stack:
        yield stack
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def trusting(identities: Path, who: str = "device") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(identities / "ca.crt"))
    context.check_hostname = False
    context.load_cert_chain(identities / f"{who}.crt", identities / f"{who}.key")
    return context


def reach(held: ExitStack, gate: str, source: str, times: int, port: int = layout.FLEET_PORT) -> list[socket.socket]:
    """Open so many connections, and keep those that the gate did not end as they were made."""
    made = []
    for _ in range(times):
        with suppress(ConnectionResetError):
            made.append(held.enter_context(socket.create_connection((gate, port), 60, source_address=(source, 0))))
    return made


def ask(held: ExitStack, gate: str, source: str, times: int, context: ssl.SSLContext) -> list[ssl.SSLSocket]:
    """Open so many TLS connections, send on each a request that never ends, and keep those that the gate did not end before."""
    made = []
    for one in reach(held, gate, source, times):
        with suppress(OSError):
            secure = held.enter_context(context.wrap_socket(one))
            secure.sendall(b"GET /v1/fleet/nothing HTTP/1.1\r\nHost: gate\r\n")
            made.append(secure)
    return made


def lives(made: socket.socket) -> bool:
    """Whether the gate keeps a connection so far."""
    made.setblocking(False)
    try:
        return made.recv(1) != b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False


def kept(made: Sequence[socket.socket], share: int) -> int:
    """How many the gate keeps, once it has ended what is above a share."""

    def alive() -> int:
        return sum(map(lives, made))

    wait_for(lambda: alive() <= share, "the gate's refusals")
    return alive()


def answered(gate: str, source: str, context: ssl.SSLContext) -> int:
    """The status of a request that the gate itself answers."""
    connection = http.client.HTTPSConnection(gate, layout.FLEET_PORT, context=context, timeout=10, source_address=(source, 0))
    try:
        connection.request("GET", "/v1/nothing")
        return connection.getresponse().status
    finally:
        connection.close()


def test_one_address_has_the_share_of_the_devices_that_are_there(gate: str, identities: Path, held: ExitStack) -> None:
    assert kept(reach(held, gate, ALONE, SHARE + 8), SHARE) == SHARE
    assert kept(reach(held, gate, SHARED, 3 * SHARE + 8), 3 * SHARE) == 3 * SHARE, "three devices are behind it"
    assert answered(gate, "127.0.1.9", trusting(identities)) == 404, "everybody else has room"


def test_the_host_that_watches_has_one_share_where_operators_come_in(gate: str, identities: Path, held: ExitStack) -> None:
    assert kept(reach(held, gate, WATCHER_ADDRESS, SHARE + 8, layout.API_PORT), SHARE) == SHARE
    others = reach(held, gate, "127.0.0.1", SHARE + 8, layout.API_PORT)
    assert len(others) == SHARE + 8
    with trusting(identities, "operator").wrap_socket(others.pop()) as last:
        assert last.version() == "TLSv1.3", "it came last, and was judged after them all"
    assert all(map(lives, others)), "operators with many consoles are not counted"


def test_one_certificate_has_one_share_wherever_it_comes_from(gate: str, identities: Path, held: ExitStack) -> None:
    context = trusting(identities)
    assert kept([one for source in ("127.0.2.1", "127.0.2.2") for one in ask(held, gate, source, SHARE, context)], SHARE) == SHARE
    with pytest.raises(OSError):  # noqa: PT011 — reset or closed, as the moment has it
        answered(gate, "127.0.2.3", context)
    assert answered(gate, "127.0.2.3", trusting(identities, "device2")) == 404


def test_dozens_of_owned_devices_leave_the_others_and_the_operator_their_way_in(
    gate: str, identities: Path, held: ExitStack
) -> None:
    owned = [f"127.0.3.{number}" for number in range(1, 61)]
    kept = 0
    for source in owned:
        for _ in range(SHARE):
            made = socket.create_connection((gate, layout.FLEET_PORT), 10, source_address=(source, 0))
            held.callback(made.close)
            kept += 1
    assert kept > 768, "more than the gate once had in all"
    assert answered(gate, "127.0.4.1", trusting(identities)) == 404
    with socket.create_connection((gate, layout.API_PORT), 10) as raw, trusting(identities, "operator").wrap_socket(raw) as api:
        assert api.version() == "TLSv1.3"
