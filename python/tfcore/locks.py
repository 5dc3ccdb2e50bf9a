"""Locks that a fork leaves free.

A child of a fork has the forking thread alone, and would wait for another's lock for ever, ours or one within the
`tokenizers` library. So a fork waits for locks that are held for a moment (`fork_lock`), and the child has new ones
instead of those that are held for long (`ProcessLock`).
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

_forking = threading.Lock()
_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_held: list[Any] = []
_process_locks: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


class ProcessLock:
    """A lock of this process' threads: `with lock.here`. A child begins anew what another thread did under it."""

    def __init__(self) -> None:
        self.here = threading.Lock()
        _process_locks.add(self)


def fork_lock() -> Any:
    """A `threading.Lock` that every fork waits for."""
    lock = threading.Lock()
    with _forking:
        _locks.add(lock)
    return lock


def _before_fork() -> None:
    _forking.acquire()
    for lock in list(_locks):
        lock.acquire()
        _held.append(lock)


def _after_fork() -> None:
    while _held:
        _held.pop().release()
    _forking.release()


def _after_fork_in_child() -> None:
    _after_fork()
    for lock in list(_process_locks):
        lock.here = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
