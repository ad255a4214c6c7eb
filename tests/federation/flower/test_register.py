"""Which SuperNodes are to be registered and removed, as tables of values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgefl.federation.flower.control import ControlFailed, Node, key_bytes
from edgefl.federation.flower.register import reconcile, standings, write_names
from edgefl.federation.loopback import node_key

A, B, C = b"key a", b"key b", b"key c"


def test_what_is_right_stays() -> None:
    todo = reconcile({"a": A, "b": B}, [Node(1, "a", "online", A), Node(2, "b", "registered", B)])
    assert (todo.register, todo.unregister, todo.keep) == ((), (), {1: "a", 2: "b"})


def test_a_new_device_is_registered_and_one_that_left_the_site_is_removed() -> None:
    left = Node(1, "a", "offline", A)
    todo = reconcile({"b": B}, [left])
    assert (todo.register, todo.unregister, todo.keep) == (("b",), (left,), {})


def test_a_device_with_a_new_key_is_removed_and_registered_again() -> None:
    old = Node(1, "a", "online", A)
    todo = reconcile({"a": C}, [old])
    assert (todo.register, todo.unregister) == (("a",), (old,))


def test_nodes_that_were_removed_are_left_alone() -> None:
    assert reconcile({"a": A}, [Node(1, "b", "unregistered", B), Node(2, "a", "online", A)]).unregister == ()


def test_a_key_that_was_removed_cannot_come_back_and_the_error_says_what_to_do() -> None:
    with pytest.raises(ControlFailed, match="was removed once and cannot come back; it needs a new key"):
        reconcile({"a": A}, [Node(1, "a", "unregistered", A)])


def test_names_are_written_once(tmp_path: Path) -> None:
    path = tmp_path / "var" / "nodes.json"
    assert write_names(path, {7: "b", 5: "a"})
    assert json.loads(path.read_text()) == {"5": "a", "7": "b"}
    assert not write_names(path, {5: "a", 7: "b"})


def test_only_ecdsa_keys_are_taken(tmp_path: Path) -> None:
    node_key(tmp_path / "node.key")
    assert key_bytes("a", (tmp_path / "node.pub").read_text()).startswith(b"-----BEGIN PUBLIC KEY-----")
    with pytest.raises(ControlFailed, match="cannot be read"):
        key_bytes("a", "no key")
    ed25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmjx2yWBlB6a+pZ2l2LwYfHo8bO0Hgdg8gw2cKcS5Xw"
    with pytest.raises(ControlFailed, match="is not ECDSA"):
        key_bytes("a", ed25519)


def test_how_a_device_is_known_is_said_by_its_own_key(tmp_path: Path) -> None:
    for name in ("old", "new"):
        node_key(tmp_path / f"{name}.key")
    old, new = ((tmp_path / f"{name}.pub").read_text() for name in ("old", "new"))
    at = key_bytes("a", old)

    def known(*listed: Node, key: str = old) -> str:
        return standings({"a": key}, list(listed))["a"]

    assert known(Node(1, "a", "online", at)) == "online"
    assert known(Node(1, "a", "unregistered", at)) == "removed"
    assert known(Node(1, "a", "offline", at), key=new) == "another key"
    assert known(Node(1, "a", "unregistered", at), key=new) == "unknown", "a new key may be registered"
    assert known(Node(1, "b", "online", at)) == "unknown", "another device's key opens nothing"
    assert known(Node(1, "a", "online", at), key="") == "another key"
    assert known() == "unknown"
