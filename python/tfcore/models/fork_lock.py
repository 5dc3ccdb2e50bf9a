"""Locks that a fork leaves free.

A process forks while no thread holds one of them: the child, which has the forking thread alone, would wait for
another's for ever, ours or one within the `tokenizers` library.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

_forking = threading.Lock()
_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_held: list[Any] = []


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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
