"""A go-plugin server for a provider written with PyPI's `tf`.

It stands in for tf's own, which ends when Terraform is interrupted and so loses the host that was being made. Here
StopProvider only raises the provider's flag: work in hand ends well and reaches the state. The server refuses to run outside
Terraform, has a fresh certificate each time, and leaves when Terraform is gone.
Protocol: go-plugin's handshake line `core|app|network|address|protocol|certificate`, mutual TLS over a Unix socket.
"""

from __future__ import annotations

import base64
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent import futures
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tf.gen import grpc_controller_pb2 as controller
from tf.gen import grpc_controller_pb2_grpc as controller_rpc
from tf.gen import grpc_stdio_pb2_grpc as stdio_rpc
from tf.gen import tfplugin_pb2 as plugin
from tf.gen import tfplugin_pb2_grpc as plugin_rpc
from tf.provider import ProviderServicer

from edgefl.infra.provider.provider import EdgeflProvider

_COOKIE = ("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2")
"""Terraform's proof that it is Terraform who starts a plugin; public and the same everywhere."""
_THREADS = 32


def serve(provider: EdgeflProvider) -> None:
    """Serve until Terraform says Shutdown or is gone; never returns."""
    if os.environ.get(_COOKIE[0]) != _COOKIE[1]:
        sys.exit("This is a Terraform plugin; Terraform starts it.")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Terraform decides, by StopProvider
    done = threading.Event()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=_THREADS))
    plugin_rpc.add_ProviderServicer_to_server(_Provider(provider), server)
    controller_rpc.add_GRPCControllerServicer_to_server(_Controller(done), server)
    stdio_rpc.add_GRPCStdioServicer_to_server(_Stdio(done), server)
    with tempfile.TemporaryDirectory(prefix="edgefl-") as private:
        socket = f"{private}/plugin.sock"
        certificate, credentials = _credentials()
        server.add_secure_port(f"unix://{socket}", credentials)
        server.start()
        sys.stdout.write(f"1|6|unix|{socket}|grpc|{certificate}\n")
        sys.stdout.flush()
        parent = os.getppid()
        while not done.wait(1) and os.getppid() == parent:
            pass
        server.stop(0.1).wait(1)
    os._exit(0)  # gRPC's threads do not end by themselves


class _Provider(ProviderServicer):  # type: ignore[misc]  # tf has no types
    """tf's provider, with an interruption that lets work in hand finish."""

    def StopProvider(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        self.app.stop.set()
        return plugin.StopProvider.Response()


class _Controller(controller_rpc.GRPCControllerServicer):  # type: ignore[misc]  # generated, without types
    """go-plugin's way to end a plugin."""

    def __init__(self, done: threading.Event) -> None:
        self.done = done

    def Shutdown(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        self.done.set()
        return controller.Empty()


class _Stdio(stdio_rpc.GRPCStdioServicer):  # type: ignore[misc]  # generated, without types
    """go-plugin's stream of a plugin's output: there is none, but it must stay open."""

    def __init__(self, done: threading.Event) -> None:
        self.done = done

    def StreamStdio(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802 - the protocol's name
        self.done.wait()
        return iter(())


def _credentials() -> tuple[str, grpc.ServerCredentials]:
    """A certificate of this launch's own: base64 DER for the handshake, and the server's credentials."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    credentials = grpc.ssl_server_credentials([(pem, certificate.public_bytes(serialization.Encoding.PEM))])
    return base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode().rstrip("="), credentials
