"""A bundle's files on this host: who answers for them, which are there, and how they arrive part by part."""

from __future__ import annotations

import base64
import glob
import json
import os
import re
import shutil
import tempfile

from ansible_collections.edgefl.host.plugins.module_utils import paths
from ansible_collections.edgefl.host.plugins.module_utils.process import run

CACHE = "/var/cache/edgefl/bundle"
INCOMING = "/var/cache/edgefl/incoming"
AUTHORITY = "/etc/edgefl/identity/ca.crt"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


class Corrupt(Exception):
    """A file is not the one that the manifest names."""


class Unsigned(Exception):
    """Nobody whom this host trusts answers for the manifest."""


def check(manifest, signature, authority, files):
    """Unsigned unless an authority that this host trusts signed `manifest` (text); Corrupt when it names `files` otherwise.

    signature: base64. authority: PEM of whom the operator trusts, for a host that has no identity to check it by.
    """
    own = paths.read(AUTHORITY)
    if not signature:
        raise Unsigned("it has no manifest.sig; a host installs only what its site's authority answers for")
    with tempfile.TemporaryDirectory() as place:
        for name, content in (("manifest", manifest.encode()), ("signature", base64.b64decode(signature))):
            with open(os.path.join(place, name), "wb") as file:
                file.write(content)
        if not any(_signed(place, certificate) for certificate in _CERTIFICATE.findall(own or authority)):
            whom = "an authority that this host trusts" if own else "the operator's authority"
            raise Unsigned(f"its signature is not from {whom}, or its manifest was altered")
    named = json.loads(manifest)["files"]
    wrong = [name for name, digest in files.items() if named.get(name) != digest]
    if wrong:
        raise Corrupt(f"{', '.join(wrong[:3])} is not in its manifest")


def cached(name, digest):
    """Where the cache keeps a file: by content, so that a new bundle brings only what is new."""
    return os.path.join(CACHE, digest[:16], os.path.basename(name))


def missing(files):
    """What the cache lacks, or has broken."""
    return [name for name, digest in files.items() if not _is_sound(cached(name, digest), digest)]


def receive(names):
    """A directory for parts of these files, for the account that pushes them; what an earlier push left there stays."""
    if not names:
        return ""
    os.makedirs(INCOMING, mode=0o700, exist_ok=True)
    os.chown(INCOMING, int(os.environ.get("SUDO_UID", os.getuid())), -1)
    return INCOMING


def held():
    """{part: its size} of what lies in the directory."""
    return {os.path.basename(path): os.path.getsize(path) for path in glob.glob(INCOMING + "/*")}


def take(files):
    """Put the parts together into the cache. Corrupt when one is missing or not what `files` says; nothing of it is kept then."""
    for name in missing(files):
        digest, parts = files[name], sorted(glob.glob(f"{INCOMING}/{files[name]}.*"))
        target = cached(name, digest)
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        fresh = target + ".edgefl-new"
        with open(fresh, "wb") as whole:
            for part in parts:
                with open(part, "rb") as content:
                    shutil.copyfileobj(content, whole, 1 << 20)
        for part in parts:
            os.unlink(part)
        if paths.sha256(fresh) != digest:
            os.unlink(fresh)
            raise Corrupt(
                f"{name} arrived with another SHA-256 than the bundle's manifest names" if parts else f"{name} did not arrive"
            )
        os.chmod(fresh, 0o644)
        os.replace(fresh, target)
    shutil.rmtree(INCOMING, ignore_errors=True)


def _signed(place, certificate):
    with open(os.path.join(place, "certificate"), "w", encoding="ascii") as file:
        file.write(certificate)
    key = os.path.join(place, "key")
    code, public, _ = run(["openssl", "x509", "-in", file.name, "-noout", "-pubkey"], check=False)
    if code:
        return False
    with open(key, "w", encoding="ascii") as out:
        out.write(public)
    how = ["-sha384", "-verify", key, "-signature", os.path.join(place, "signature"), os.path.join(place, "manifest")]
    return run(["openssl", "dgst", *how], check=False)[0] == 0


def _is_sound(path, digest):
    return os.path.exists(path) and paths.sha256(path) == digest
