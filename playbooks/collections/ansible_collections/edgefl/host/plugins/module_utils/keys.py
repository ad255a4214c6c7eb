"""Keys and certificate requests, made on this host."""

from __future__ import annotations

import os

from ansible_collections.edgefl.host.plugins.module_utils import paths
from ansible_collections.edgefl.host.plugins.module_utils.process import run

_CURVE = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:named_curve"]


def make(path, owner):
    """A new private key at `path`, for its owner alone."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    _, pem, _ = run(["openssl", "genpkey", *_CURVE])
    paths.write(path, pem.encode(), owner, owner, "0600")


def request(path, name):
    """A request in PEM for a certificate in this name, signed by the key at `path`."""
    return run(["openssl", "req", "-new", "-sha256", "-key", path, "-subj", "/CN=" + name])[1]
