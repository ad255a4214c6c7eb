"""One request about the global model to several devices, and their answers: who holds an older model, or none, gets the whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgefl.federation.aggregation.vectors import Arrays, Template
from edgefl.federation.compression.downlink import Downlink, Request
from edgefl.federation.exchange import Arrival, Exchange
from edgefl.federation.messages import Evaluated, Refused, Stale, Trained, size


class Question:
    """Sent when it is made. growth: how many times larger than in float32 an update may be. bytes_down: what each device's
    messages took. silent, lost, send_s: see `exchange.Pending`.
    """

    def __init__(
        self,
        exchange: Exchange,
        downlink: Downlink,
        request: Request,
        arrays: Arrays,
        devices: Mapping[str, int],
        *,
        limit_s: float,
        growth: int = 1,
    ) -> None:
        self._downlink, self._request, self._arrays, self._devices = downlink, request, arrays, devices
        self._limit_s = limit_s
        contents = downlink.contents(request, arrays, devices)
        sizes = {id(content): size(content) for content in contents.values()}
        self.bytes_down = {device: sizes[id(content)] for device, content in contents.items()}
        self._asked_again: set[str] = set()
        self._pending = exchange.send_each(
            request.kind,
            contents,
            devices,
            group=request.round,
            ttl_s=limit_s,
            model_bytes=4 * growth * Template.of(arrays).size,
        )
        self.send_s, self.lost = self._pending.send_s, self._pending.lost

    @property
    def silent(self) -> list[str]:
        """Devices whose answer has not arrived."""
        return self._pending.silent

    @property
    def arriving(self) -> list[str]:
        """Of the silent ones, those whose answer is on its way."""
        return self._pending.arriving

    def arrivals(self) -> Iterator[Arrival]:
        """Each answer when it has arrived, until all have or the time is over. A device is sent the whole model once at most."""
        for arrival in self._pending.arrivals(self._limit_s):
            if isinstance(arrival.said, Stale) and arrival.device not in self._asked_again:
                self._ask_again(arrival.device)
                continue
            if isinstance(arrival.said, Trained | Evaluated | Refused):
                self._downlink.arrived(arrival.device)
            yield arrival

    def _ask_again(self, device: str) -> None:
        self._asked_again.add(device)
        self._downlink.missing(device)
        content = self._downlink.contents(self._request, self._arrays, [device], whole=True)[device]
        self.bytes_down[device] += size(content)
        request = self._request
        self._pending.again(request.kind, content, device, self._devices[device], group=request.round, ttl_s=self._limit_s)
