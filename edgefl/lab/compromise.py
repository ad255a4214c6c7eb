"""Own a lab device as an attacker with root would: its executor loads the attacker's code before the task's.

Nothing in what edgefl installs on a device has a place for an attack; this plants one from outside, beside the unit.
"""

from __future__ import annotations

from edgefl.lab.failure import LabFailed
from edgefl.lab.hosts import Lab

_UNIT = "edgefl-superexec.service"
_DROP_IN = f"/etc/systemd/system/{_UNIT}.d/90-compromised.conf"
_PLANT = """\
set -eu
mkdir -p "$(dirname "$0")"
[ "$(cat "$0" 2>/dev/null)" != "$1" ] || exit 0
printf '%s\\n' "$1" >"$0"
systemctl daemon-reload
systemctl try-restart "$2"
"""
_HEAL = 'set -eu; rm -f "$0"; systemctl daemon-reload; systemctl try-restart "$1"'


def compromise(lab: Lab, device: str, attack: str, *, first_round: int = 1) -> None:
    """Make a device attack from a round on; planting the same attack again changes nothing. Raises LabFailed.

    attack: a name that `edgefl.lab.attacks` knows, e.g. `reversal`.
    """
    settings = f"[Service]\nEnvironment=EDGEFL_PRELOAD=edgefl.lab.attacks EDGEFL_ATTACK={attack}:{first_round}"
    done = lab.execute(device, ["sh", "-c", _PLANT, _DROP_IN, settings, _UNIT])
    if done.returncode:
        raise LabFailed(f"{device} could not be compromised: {done.stderr.strip()}", hint="edgefl up")


def heal(lab: Lab, device: str) -> None:
    """Take the attacker's code away again. Raises LabFailed."""
    done = lab.execute(device, ["sh", "-c", _HEAL, _DROP_IN, _UNIT])
    if done.returncode:
        raise LabFailed(f"{device} could not be healed: {done.stderr.strip()}", hint="edgefl up")
