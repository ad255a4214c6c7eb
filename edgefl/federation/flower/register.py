"""Make the SuperLink's list of SuperNodes what the site says, and tell the ServerApp which node is which device.

`python -m edgefl.federation.flower.register --nodes /etc/edgefl/nodes.json` reads {name: OpenSSH public key}. Running it again
changes nothing. Its last line on stdout is `changed=true` or `changed=false`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgefl import layout
from edgefl.errors import EdgeflError
from edgefl.federation.flower.control import Control, ControlFailed, Node, SuperLinkAway, key_bytes
from edgefl.federation.hostconfig import Places
from edgefl.layout import SUPERLINK_PORT

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What is to be done: names to register, nodes to remove, and the nodes that stay as they are."""

    register: tuple[str, ...]
    unregister: tuple[Node, ...]
    keep: Mapping[int, str]


def reconcile(wanted: Mapping[str, bytes], listed: list[Node]) -> Reconciliation:
    """Compare the keys that the site wants with the nodes that the SuperLink lists.

    A node stays when its key is wanted under its name. A key that was unregistered can never come back: Flower refuses
    it, so ControlFailed asks for a new one.
    """
    gone = {node.public_key for node in listed if node.state == "unregistered"}
    standing = [node for node in listed if node.state != "unregistered"]
    keep = {node.node_id: node.name for node in standing if wanted.get(node.name) == node.public_key}
    kept = set(keep.values())
    register = tuple(name for name in wanted if name not in kept)
    for name in register:
        if wanted[name] in gone:
            raise ControlFailed(
                f"the SuperNode key of {name} was removed once and cannot come back; it needs a new key",
                hint=f"on {name}: rm {layout.IDENTITY}/node.*, then edgefl up",
            )
    return Reconciliation(register, tuple(node for node in standing if node.node_id not in keep), keep)


def standings(keys: Mapping[str, str], listed: list[Node]) -> dict[str, str]:
    """How the SuperLink knows devices, by name: the state of the node with the device's key, or why there is none.

    keys: OpenSSH text by name. A key that cannot be read is known to nobody.
    """
    return {name: _standing(name, key, listed) for name, key in keys.items()}


def _standing(name: str, key: str, listed: list[Node]) -> str:
    own = [node for node in listed if node.name == name]
    try:
        mine = [node.state for node in own if node.public_key == key_bytes(name, key)]
    except ControlFailed:
        mine = []
    if alive := [state for state in mine if state != "unregistered"]:
        return alive[0]
    if mine:
        return "removed"
    return "another key" if any(node.state != "unregistered" for node in own) else "unknown"


def write_names(path: Path, names: Mapping[int, str]) -> bool:
    """Write {node id: name} for the ServerApp, in one step; returns whether that changed anything."""
    text = json.dumps({str(node): name for node, name in sorted(names.items(), key=lambda item: item[1])}, indent=2) + "\n"
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.replace(path)
    return True


def apply(control: Control, keys: Mapping[str, str], names: Path) -> bool:
    """Reconcile the SuperLink with {name: OpenSSH key}; returns whether anything changed."""
    wanted = {name: key_bytes(name, key) for name, key in keys.items()}
    todo = reconcile(wanted, control.nodes())
    for node in todo.unregister:
        control.unregister(node.node_id)
    nodes = dict(todo.keep)
    for name in todo.register:
        nodes[control.register(name, keys[name])] = name
    return bool(todo.register or todo.unregister) | write_names(names, nodes)


def register_all(places: Places, port: int, keys: Mapping[str, str], names: Path) -> bool:
    """`apply` at this host's SuperLink."""
    with Control(places, port=port) as control:
        return apply(control, keys, names)


def standing_of(places: Places, port: int, keys: Mapping[str, str]) -> dict[str, str]:
    """`standings` at this host's SuperLink."""
    with Control(places, port=port) as control:
        return standings(keys, control.nodes())


def when_there(act: Callable[[], Result], limit_s: float) -> Result:
    """Act once the SuperLink answers, which may still be starting; SuperLinkAway when it does not within the limit."""
    end = time.monotonic() + limit_s
    while True:
        try:
            return act()
        except SuperLinkAway:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def main(argv: list[str] | None = None) -> int:
    """The command's entry point."""
    places = Places.from_environment()
    parser = argparse.ArgumentParser(prog="edgefl-register", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--nodes",
        type=Path,
        default=places.config / "nodes.json",
        help="JSON: device name to OpenSSH public key; - reads it from standard input",
    )
    parser.add_argument(
        "--names", type=Path, help="where the ServerApp reads node ids and names (default: nodes.json in the state)"
    )
    parser.add_argument("--config", type=Path, default=places.config)
    parser.add_argument("--state", type=Path, default=places.state)
    parser.add_argument("--port", type=int, default=SUPERLINK_PORT)
    parser.add_argument("--standing", action="store_true", help="change nothing; say as JSON how the SuperLink knows these keys")
    parser.add_argument("--wait-s", type=float, default=30.0, help="how long the SuperLink may take to answer")
    options = parser.parse_args(argv)
    places = Places(options.config, options.state)
    try:
        keys = json.loads(sys.stdin.read() if str(options.nodes) == "-" else options.nodes.read_text())
        if options.standing:
            sys.stdout.write(json.dumps(when_there(lambda: standing_of(places, options.port, keys), options.wait_s)) + "\n")
            return 0
        changed = when_there(lambda: register_all(places, options.port, keys, options.names or places.nodes), options.wait_s)
    except json.JSONDecodeError as error:
        sys.stderr.write(f"✖ {options.nodes} is not JSON: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"✖ {error.filename}: {error.strerror}\n")
        return 1
    except EdgeflError as error:
        sys.stderr.write("\n".join(error.lines()) + "\n")
        return int(error.exit_code)
    sys.stdout.write(f"changed={str(changed).lower()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
