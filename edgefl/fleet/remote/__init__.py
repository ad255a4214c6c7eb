"""Programs that run on hosts: sent over SSH, standard library alone, any Python from 3.9 on, one JSON object a line as output."""

from __future__ import annotations

from importlib.resources import files


def program(name: str) -> bytes:
    """The source of one of these programs."""
    return (files(__name__) / f"{name}.py").read_bytes()
