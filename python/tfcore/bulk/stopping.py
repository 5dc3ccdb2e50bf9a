"""SIGINT and SIGTERM as a wish to stop: at the next border of a part, or at once where input is waited for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class _Interrupted(BaseException):
    """Ends the call of the system that waits for input, which would go on after any other signal."""


class Stop:
    """False until a signal has come; then its number is in `signal`."""

    signal = 0
    _waits = False

    def __bool__(self) -> bool:
        return self.signal != 0

    def hear(self, number: int) -> None:
        self.signal = number
        if self._waits:
            raise _Interrupted

    def until(self, items: Iterator[T]) -> Iterator[T]:
        """The items up to a signal, also to one that comes while the next of them is waited for."""
        while True:
            try:
                self._waits = True
                if self.signal:
                    return
                item = next(items)
            except (_Interrupted, StopIteration):
                return
            finally:
                self._waits = False
            yield item


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
        restore()
        stop.hear(number)

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
