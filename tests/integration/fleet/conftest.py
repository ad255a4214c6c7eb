"""A real OpenSSH server on loopback: the machine's own, else the one that apt gives, run in namespaces of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edgefl.federation.ports import reserve_port
from edgefl.infra.inventory import Host

_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
LogLevel ERROR
MaxStartups 100
"""
_START = """\
small_tmp() {  # another /tmp, of this size, in which the server still finds what it runs from
    mkdir /run/tmp && mount --bind /tmp /run/tmp && mount -t tmpfs -o "size=$1" tmpfs /tmp
    for kept in "$folder" "${server%/root/usr/sbin/sshd}"; do
        case $kept in /tmp/*) mkdir -p "$kept" && mount --bind "/run$kept" "$kept" ;; esac
    done
}
folder=$1 server=$2
mount --bind "$1/passwd" /etc/passwd
mount -t tmpfs tmpfs /run && mkdir /run/sshd
eval "$3"
exec "$2" -D -e -f "$1/sshd_config"
"""


@pytest.fixture(scope="session")
def sshd_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's binary."""
    if os.geteuid() != 0:
        pytest.skip("an SSH server that logs in root needs root")
    if found := shutil.which("sshd", path="/usr/sbin:/usr/local/sbin"):
        return Path(found)
    folder = tmp_path_factory.mktemp("openssh")
    fetched = subprocess.run(
        ["apt-get", "-o", "APT::Sandbox::User=", "-qq", "download", "openssh-server", "libwrap0"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode:
        pytest.skip(f"no SSH server here, and apt gives none: {fetched.stderr.strip()[-200:]}")
    for deb in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", deb, folder / "root"], check=True)
    return folder / "root/usr/sbin/sshd"


@pytest.fixture(scope="session")
def loopback_host(sshd_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host that answers on SSH: this machine, under a server of the test's own."""
    with serving(sshd_program, tmp_path_factory.mktemp("sshd")) as host:
        yield host


@contextmanager
def serving(program: Path, folder: Path, setup: str = "") -> Iterator[Host]:
    """A server whose sessions see this machine as the shell commands of `setup` leave it; nobody else sees that."""
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    others = (
        Path("/etc/passwd").read_text().replace("root:/root:/bin/bash", "root:/root:/bin/sh")
    )  # bash reads root's own .bashrc
    (folder / "passwd").write_text(others + "sshd:x:60022:65534::/run/sshd:/usr/sbin/nologin\n")
    held = ExitStack()
    port = reserve_port(held)
    (folder / "sshd_config").write_text(_CONFIG.format(port=port, folder=folder))
    libraries = {"LD_LIBRARY_PATH": ":".join(map(str, program.parents[2].glob("usr/lib/*-linux-gnu")))}
    server = subprocess.Popen(
        ["unshare", "--mount", "sh", "-ec", _START, "sshd", folder, program, setup], env=os.environ | libraries
    )
    try:
        _wait_for_port(port, server)
        yield Host("loop", "device", "127.0.0.1", port, "root", str(folder / "user_key"), (folder / "host_key.pub").read_text())
    finally:
        server.terminate()
        server.wait(60)
        held.close()


def _wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, "sshd ended"
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError(f"sshd does not listen on port {port} after 10 s")
