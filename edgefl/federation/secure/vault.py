"""Where a device keeps the secrets of a masked round between its messages, each of which is a process of its own.

A file that only the app's user reads, with fresh secrets for each round, and not keys derived from one secret of the device: what
is removed at the round's end cannot open, later, what somebody recorded today. Every stage is written down before its answer
leaves, so that no message gets two different answers, whatever crashes: a second masked update under the same masks, or shares
for two different lists of survivors, would give the first away.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edgefl.errors import EdgeflError

KEPT_S = 24 * 3600.0
"""A round that is not over by then never will be."""


class SecureRefused(EdgeflError):
    """The device takes no part in the sum: by its own terms, or because the request does not fit what it was asked before."""


class Secrets(BaseModel):
    """What a device knows of one round. stage: what it has answered.

    seal, mask: its secret keys. seed: of its own mask. keys: the members' public ones, 64 bytes each. among: the devices with
    which it masked. context: the key of a homomorphic round. places, ranges: which values are sent and how (selection.py); empty
    for all of them as they are.
    """

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")

    stage: Literal["keys", "shared", "masked"]
    seal: bytes
    mask: bytes
    seed: bytes = b""
    members: tuple[str, ...] = ()
    keys: bytes = b""
    among: tuple[str, ...] = ()
    context: bytes = b""
    places: bytes = b""
    ranges: bytes = b""


class Vault:
    """The rounds that this device takes part in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def begin(self, run: str, round_: int, secrets: Secrets) -> None:
        """Keep a new round's secrets; those of the run's earlier rounds go, and of the same one where it was begun before."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        old = time.time() - KEPT_S
        for path in self.directory.iterdir():
            if path.name.startswith(_hashed(run)) or path.stat().st_mtime < old:
                path.unlink(missing_ok=True)
        self.keep(run, round_, secrets)

    def read(self, run: str, round_: int, stage: str) -> Secrets:
        """The round's secrets. Raises SecureRefused unless the last thing that it answered is this stage."""
        try:
            found = Secrets.model_validate_json(self._path(run, round_).read_bytes())
        except (OSError, ValidationError) as error:
            raise SecureRefused(f"this device has no secrets of round {round_}: it did not begin it, or it is over") from error
        if found.stage != stage:
            raise SecureRefused(f"this device answered `{found.stage}` in round {round_}, and answers nothing twice")
        return found

    def keep(self, run: str, round_: int, secrets: Secrets) -> None:
        """Write the secrets down; they are on the disk when this returns. Raises SecureRefused where the disk takes nothing."""
        path = self._path(run, round_)
        draft = path.with_name(path.name + ".new")
        try:
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                file.write(secrets.model_dump_json().encode())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            self._sync()
        except OSError as error:
            raise SecureRefused(f"the round's secrets cannot be kept: {error.strerror}") from error

    def end(self, run: str, round_: int) -> None:
        """Remove the round's secrets; they are gone from the disk when this returns."""
        self._path(run, round_).unlink(missing_ok=True)
        self._sync()

    def _sync(self) -> None:
        handle = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _path(self, run: str, round_: int) -> Path:
        # Hashed: the run's name comes from the coordinator, and must not lead elsewhere.
        return self.directory / f"{_hashed(run)}-{round_}"


def _hashed(run: str) -> str:
    return hashlib.sha256(run.encode()).hexdigest()[:24]
