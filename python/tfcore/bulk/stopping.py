"""SIGINT and SIGTERM as a wish to stop at the next border of a part."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """False until a signal has come; then its number is in `signal`."""

    signal = 0

    def __bool__(self) -> bool:
        return self.signal != 0


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """A first signal sets the wish, a second one acts as it always does. Only Python's main thread can hear them.

    A signal that this process was started to ignore, as a shell's background jobs may be, stays ignored.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def hear(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        restore()

    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    earlier = {number: handler for number, handler in earlier.items() if handler is not signal.SIG_IGN}

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    for number in earlier:
        signal.signal(number, hear)
    try:
        yield stop
    finally:
        restore()
