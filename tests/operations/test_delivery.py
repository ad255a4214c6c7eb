"""What services of the operator's own are sent, and what their answers mean."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from edgefl.operations.delivery import Delivery, NotDelivered, SecretUnusable, read
from edgefl.operations.tracking import tracker
from edgefl.site.model import Site

from .collector import collecting

PROTOBUF = {"Content-Type": "application/x-protobuf"}


def tracked(**mlflow: str) -> Site:
    said = {"name": "clinic", "devices": [{"name": "edge-01"}], "observability": {"mlflow": mlflow}}
    return Site.model_validate(said)


@pytest.mark.parametrize(
    ("account", "header"),
    [({}, "Bearer hunter2"), ({"username": "clinic"}, f"Basic {b64encode(b'clinic:hunter2').decode()}")],
)
async def test_an_account_or_a_token_opens_the_server(account: dict[str, str], header: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    with collecting() as taking:
        server = taking.address.removesuffix("/v1/traces")
        async with tracker(tracked(server=f"{server}/", secret_file=str(tmp_path / "secret"), **account)) as tracking:
            assert (tracking.to, tracking.experiment) == (f"{server}, experiment clinic", "clinic")
            await tracking.delivery.ask("POST", "/v1/traces", content=b"", headers=PROTOBUF)
        assert taking.headers[0]["Authorization"] == header


async def test_what_may_have_arrived_is_not_sent_twice_by_itself() -> None:
    with collecting() as taking:
        taking.answers = [503, 503]
        async with Delivery(taking.address, PROTOBUF) as delivery:
            with pytest.raises(NotDelivered, match="503 Service Unavailable: not now"):
                await delivery.ask("POST", content=b"", tries=1)
        assert taking.answers == [503]


@pytest.mark.parametrize("content", ["hunter2\nhunter3", "hünter2"])
async def test_what_is_no_token_is_not_put_into_a_header_nor_said(content: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(content)
    with pytest.raises(SecretUnusable, match="more than one line") as unusable:
        async with tracker(tracked(server="http://127.0.0.1:9", secret_file=str(tmp_path / "secret"))):
            pass
    assert "nter" not in "".join(unusable.value.lines())


@pytest.mark.parametrize("content", ["", " \n"])
def test_an_empty_secret_opens_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(content)
    with pytest.raises(SecretUnusable, match="is empty"):
        read(tmp_path / "secret")
    with pytest.raises(SecretUnusable, match="cannot be read: Is a directory"):
        read(tmp_path)
    (tmp_path / "secret").write_bytes(b"\xff\xfe")
    with pytest.raises(SecretUnusable, match="it is no text"):
        read(tmp_path / "secret")
