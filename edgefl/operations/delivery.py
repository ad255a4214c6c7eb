"""Posting to services that are not the site's own: tried again where they ask for it, and their no as an error that says why."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from edgefl.errors import EdgeflError, ExitCode

_TIMEOUT_S = 30.0
_OF_FILES_S = 300.0
"""A server writes a model down before it says so."""
_TRIES = 5
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_LATER = frozenset({429, 502, 503, 504})
"""Answers that mean: the same once more, later (OpenTelemetry Protocol 1.x, "Retryable Response Codes")."""
_SAID = 200
_PART = 1 << 20


class NotDelivered(EdgeflError):
    """Who was to be told does not answer, or refuses."""

    exit_code = ExitCode.EXPORT_FAILED


class SecretUnusable(EdgeflError):
    """What was to open a service is not in its file."""

    exit_code = ExitCode.SITE_INVALID


class Delivery:
    """A service, and what opens it. Use as `async with Delivery(…)`.

    TLS trusts what this machine trusts. Redirections are not followed: the headers are for this service alone.
    """

    def __init__(self, address: str, headers: Mapping[str, str], auth: tuple[str, str] | None = None) -> None:
        self.address = address
        self._http = httpx.AsyncClient(
            headers=dict(headers), auth=auth, verify=ssl.create_default_context(), timeout=_TIMEOUT_S, follow_redirects=False
        )

    async def __aenter__(self) -> Delivery:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, method: str, path: str = "", **arguments: Any) -> httpx.Response:
        """The answer, a yes. Raises NotDelivered."""
        answer = await self.answer(method, path, **arguments)
        if answer.is_success:
            return answer
        raise self.refusal(answer)

    async def answer(
        self, method: str, path: str = "", *, file: Path | None = None, tries: int = _TRIES, **arguments: Any
    ) -> httpx.Response:
        """The answer, whatever it is; where the service is not there, or says to come later, it is asked `tries` times.

        file: what is sent, in parts. Raises NotDelivered where there is no answer.
        """
        pause_s = _FIRST_PAUSE_S
        for tries_left in reversed(range(tries)):
            try:
                sent = {**arguments, **_of_file(file), "timeout": _OF_FILES_S} if file is not None else arguments
                answer = await self._http.request(method, self.address + path, **sent)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                # What was sent may have arrived, unless nobody was there to take it.
                if not tries_left or not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    why = str(error) or type(error).__name__
                    raise NotDelivered(f"{self.address} does not answer: {why}", hint="the same command goes on") from error
                wait_s = pause_s
            else:
                if answer.status_code not in _LATER or not tries_left:
                    return answer
                asked = answer.headers.get("Retry-After", "")
                wait_s = min(float(asked), _LONGEST_PAUSE_S) if asked.isdecimal() else pause_s
            await asyncio.sleep(wait_s)
            pause_s *= 2
        raise AssertionError  # the last try returns or raises

    def understood(self, answer: httpx.Response) -> dict[str, Any]:
        """The JSON object of an answer. Raises NotDelivered."""
        try:
            said = answer.json()
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise self.unusable("answers as no such service does")
        return said

    def unusable(self, why: str, hint: str = "the address in site.yaml") -> NotDelivered:
        """The service is not what it was taken for."""
        return NotDelivered(f"{self.address} {why}", hint=hint)

    def refusal(self, answer: httpx.Response) -> NotDelivered:
        """What the service said, as an error."""
        said = " ".join(answer.text.split())[:_SAID]
        what = f"{self.address} refuses with {answer.status_code} {answer.reason_phrase}".rstrip()
        hint = "what opens it is in the file that site.yaml names" if answer.status_code in {401, 403} else "edgefl check"
        return NotDelivered(f"{what}: {said}" if said else what, hint=hint)


def _of_file(path: Path) -> dict[str, Any]:
    async def parts() -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(path.open, "rb")
        with file:
            while part := await asyncio.to_thread(file.read, _PART):
                yield part

    return {"content": parts(), "headers": {"Content-Length": str(path.stat().st_size)}}


def headers_in(path: Path) -> dict[str, str]:
    """The headers of a file, one `name: value` a line; empty lines count for nothing. Raises SecretUnusable."""
    found: dict[str, str] = {}
    for number, line in enumerate(read(path).splitlines(), start=1):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not line.strip():
            continue
        if not (colon and name.isascii() and name.replace("-", "").isalnum() and value.isascii() and value.isprintable()):
            raise SecretUnusable(f"line {number} of {path} is no header", hint="one `name: value` a line")
        found[name] = value
    return found


def token(path: Path) -> str:
    """What a file has, fit for a header. Raises SecretUnusable."""
    found = read(path)
    if not (found.isascii() and found.isprintable()):
        raise SecretUnusable(f"{path} has more than one line, or other letters than ASCII's", hint="the token alone")
    return found


def read(path: Path) -> str:
    """What a file has, without blanks around it. Raises SecretUnusable; what is in the file is never said."""
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SecretUnusable(f"{path} cannot be read: {why}", hint="edgefl check") from None
    if not text:
        raise SecretUnusable(f"{path} is empty", hint="a file with the secret alone, for you to read alone")
    return text
