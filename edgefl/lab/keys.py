"""The lab's SSH keys: one for the operator, one for each host, made before the host first boots."""

from __future__ import annotations

import os
from pathlib import Path


def keypair(path: Path, comment: str) -> str:
    """The public half (`ssh-ed25519 AAAA…`, without comment) of the key in `path`, which is made (0600) when it is missing."""
    public = path.with_name(f"{path.name}.pub")
    if not public.exists():  # written last: while it is missing, the pair is not complete
        _make(path, public, comment)
    return " ".join(public.read_text().split()[:2])


def _make(path: Path, public: Path, comment: str) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - 0600 from the start
        file.write(secret)
    line = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()
    partial = public.with_suffix(".partial")
    partial.write_text(f"{line} {comment}\n")
    partial.chmod(0o644)
    partial.rename(public)
