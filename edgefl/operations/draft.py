"""A site.yaml while it is written: checked as it stands, kept as a draft, saved whole, never over what somebody else wrote."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edgefl.errors import EdgeflError
from edgefl.site import scaffold
from edgefl.site.invalid import Finding, SiteInvalid
from edgefl.site.loading import loads, place

_DRAFT = "site.yaml.draft"


class SiteMoved(EdgeflError):
    """site.yaml is no longer what the draft began from; nothing was written."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A text on its way to site.yaml. saved: what the file held when it was read; None where there was none."""

    text: str
    saved: str | None

    @property
    def is_kept(self) -> bool:
        """Whether the text is an earlier one that never reached the file."""
        return self.text != (self.saved or "")


def begin(directory: Path, *, module: scaffold.Module, devices: int, name: str | None) -> list[Path]:
    """Write a first, commented site.yaml; the files written. Raises SiteExists instead of overwriting."""
    return scaffold.write(directory, module=module, devices=devices, name=name)


def opened(directory: Path) -> Draft:
    """The draft that was kept, else the file. Raises EdgeflError when neither can be read as text."""
    saved = _read(place(directory))
    kept = _read(_draft(directory))
    return Draft(saved or "" if kept is None else kept, saved)


def findings(directory: Path, text: str) -> tuple[Finding, ...]:
    """Everything that `up` would refuse this text for, with its lines; nothing when it is valid."""
    try:
        loads(text, directory, with_files=True)
    except SiteInvalid as error:
        return error.findings
    return ()


def keep(directory: Path, text: str, saved: str | None) -> None:
    """Have the text in the site's working state, so that nothing that was typed is lost; what is saved needs no keeping."""
    draft = _draft(directory)
    if text == saved:
        draft.unlink(missing_ok=True)
        return
    draft.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _replace(draft, text)


def save(directory: Path, text: str, over: str | None) -> None:
    """Put the text into site.yaml, whole or not at all. Raises SiteMoved unless the file still holds `over`."""
    path = place(directory)
    try:
        if _read(path) not in (over, text):
            raise SiteMoved(f"{path.name} was changed by somebody else since it was opened", hint="save again to overwrite it")
        _replace(path, text)
        _draft(directory).unlink(missing_ok=True)
    except OSError as error:
        raise EdgeflError(f"{path} cannot be written: {error}", hint="what was typed is kept as a draft") from error


def _draft(directory: Path) -> Path:
    return place(directory).parent / ".edgefl" / _DRAFT


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise EdgeflError(f"{path} cannot be read: {error}") from error


def _replace(path: Path, text: str) -> None:
    """Swap the file for one that holds the text: a crash leaves the old or the new one, and its permissions stay."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    target = path.resolve()  # where it is a link, what it leads to is replaced
    fresh = target.with_name(f".{target.name}.new")
    try:
        with fresh.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
