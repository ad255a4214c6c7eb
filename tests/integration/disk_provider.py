"""edgefl's provider over hosts that are files: real CRUD, real processes, without booting anything.

Terraform starts it as `python -m disk_provider`. In the hosts' directory, `fail-NAME` makes a host fail before anything is
made of it, `break-NAME` after, and `hold-NAME` makes it wait until the file is gone (`held-NAME` is there while it waits).
`stopped` says that Terraform was interrupted.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

from edgefl.lab.failure import LabFailed
from edgefl.lab.spec import HostSpec, HostState


@dataclass(frozen=True)
class DiskHosts:
    directory: Path
    network: IPv4Interface

    def create(self, spec: HostSpec) -> HostState:
        if (self.directory / f"fail-{spec.name}").exists():
            raise LabFailed(f"{spec.name} has no power", hint="plug it in")
        self._write(HostState(spec, f"ssh-ed25519 AAAA{spec.name}", running=False))
        if (self.directory / f"break-{spec.name}").exists():
            raise RuntimeError("the fuse blew")
        hold, held = (self.directory / f"{word}-{spec.name}" for word in ("hold", "held"))
        deadline = time.monotonic() + 300
        while hold.exists() and time.monotonic() < deadline:
            held.touch()
            threading.Event().wait(0.02)
        held.unlink(missing_ok=True)
        return self._write(HostState(spec, f"ssh-ed25519 AAAA{spec.name}", running=True))

    def read(self, name: str) -> HostState | None:
        try:
            found = json.loads(self._file(name).read_text())
        except FileNotFoundError:
            return None
        return HostState(HostSpec.from_dict(found["spec"]), found["host_key"], found["running"])

    def delete(self, name: str) -> None:
        if (self.directory / f"fail-{name}").exists():
            raise LabFailed(f"{name} cannot be ended", hint="pull the plug")
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def _write(self, host: HostState) -> HostState:
        self.directory.mkdir(parents=True, exist_ok=True)
        saved = {"spec": host.spec.as_dict(), "host_key": host.host_key, "running": host.running}
        partial = self._file(host.spec.name).with_suffix(f".{threading.get_ident()}")
        partial.write_text(json.dumps(saved))
        partial.replace(self._file(host.spec.name))
        return host


if __name__ == "__main__":
    from edgefl.infra.provider.provider import EdgeflProvider
    from edgefl.infra.provider.server import serve

    provider = EdgeflProvider(DiskHosts)

    def say_when_stopped() -> None:
        provider.stop.wait()
        assert isinstance(provider.hosts, DiskHosts)
        (provider.hosts.directory / "stopped").touch()

    threading.Thread(target=say_when_stopped, daemon=True).start()
    serve(provider)
