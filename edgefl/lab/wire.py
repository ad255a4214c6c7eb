"""A link with rate and delay, in user space, for kernels without netem: two TAP interfaces, and this process between them.

    wire.py NAMESPACE PORT UP_BPS DOWN_BPS DELAY_S      (rates in bit/s, 0 is unlimited; the delay in each direction)

Makes `eth0` in the host's network namespace and PORT in its own, and carries frames between them until it is ended.
Standard library only: it starts once per slow link, at the host's boot.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import select
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
CLONE_NEWNET = 0x40000000
FRAME_BYTES = 65536
BUFFER_S = 0.3
"""A frame that would wait longer for its turn is dropped, as a full modem buffer does."""
BATCH = 64
"""Frames read from one side before the other one gets its turn."""


@dataclass
class Direction:
    """One way along the wire: when the next frame may start, and when one that arrives now comes out."""

    to: int
    rate_bps: float
    delay_s: float
    free_at: float = field(default=0.0)

    def arrival(self, now: float, frame_bytes: int) -> float | None:
        """When a frame sent now comes out at the other end; None when the buffer is full and it is dropped."""
        start = max(now, self.free_at)
        if start - now > BUFFER_S:
            return None
        self.free_at = start + (frame_bytes * 8 / self.rate_bps if self.rate_bps else 0.0)
        return self.free_at + self.delay_s


def carry(directions: dict[int, Direction]) -> None:
    """Move frames along, for ever. directions: by the descriptor that frames come from."""
    waiting: list[tuple[float, int, int, bytes]] = []
    sequence = 0
    poll = select.epoll()
    for descriptor in directions:
        poll.register(descriptor, select.EPOLLIN)
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, to, frame = heapq.heappop(waiting)
            write(to, frame)
        for source, _ in poll.poll(max(0.0, waiting[0][0] - now) if waiting else -1):
            direction = directions[source]
            for frame in frames(source):
                if (due := direction.arrival(time.monotonic(), len(frame))) is not None:
                    sequence += 1
                    heapq.heappush(waiting, (due, sequence, direction.to, frame))


def frames(source: int) -> list[bytes]:
    """The frames that wait at a TAP, at most a batch of them."""
    found: list[bytes] = []
    with suppress(OSError):  # none is left (EAGAIN), or the interface is down (EIO): frames are lost, as on a cut cable
        while len(found) < BATCH:
            found.append(os.read(source, FRAME_BYTES))
    return found


def write(to: int, frame: bytes) -> None:
    """Hand a frame to a TAP; one that its queue or its state refuses is lost."""
    with suppress(OSError):
        os.write(to, frame)


def tap(name: str) -> int:
    """A new TAP interface of the calling process' network namespace; it lives as long as the descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return descriptor


def enter(namespace: int) -> None:
    """Move this process into a network namespace."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main(arguments: list[str]) -> None:
    """Make the wire and carry."""
    namespace, port, up_bps, down_bps, delay_s = arguments
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    enter(os.open(f"/run/netns/{namespace}", os.O_RDONLY))
    host = tap("eth0")
    enter(here)
    bridge = tap(port)
    carry(
        {
            host: Direction(bridge, float(up_bps), float(delay_s)),
            bridge: Direction(host, float(down_bps), float(delay_s)),
        }
    )


if __name__ == "__main__":
    main(sys.argv[1:])
