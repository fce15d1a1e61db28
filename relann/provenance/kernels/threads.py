"""Threads that share the chunks of a loop."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

SERIAL = 1 << 16  # numbers below which a loop runs in the calling thread


class Workers:
    """Threads that help the calling one; as many in all as torch uses.

    They are our own: numba's OpenMP layer would start a second pool beside torch's, its other layer
    aborts when two threads enter it, and its parallel compilation takes five times as long.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._size = 0

    def forget(self) -> None:
        """Start afresh, as a forked child must: threads do not survive a fork."""
        self._lock, self._pool, self._size = threading.Lock(), None, 0

    def run(self, loop: Callable[..., None], bounds: Sequence[int], args: Sequence[Any]) -> None:
        """loop(*args, bounds[i], bounds[i+1]) for every i; whoever is free takes the next."""
        if len(bounds) == 2:
            loop(*args, bounds[0], bounds[1])
            return
        turns = iter(range(len(bounds) - 1))  # next() is atomic

        def work() -> None:
            for i in turns:
                loop(*args, bounds[i], bounds[i + 1])

        helpers = min(torch.get_num_threads(), len(bounds) - 1) - 1
        helping = [self._helpers(helpers).submit(work) for _ in range(helpers)]
        try:
            work()
        finally:
            for future in helping:
                if not future.cancel():
                    future.result()

    def _helpers(self, count: int) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None or self._size < count:
                self._size = count
                self._pool = ThreadPoolExecutor(count, "relann-kernel")
            return self._pool


workers = Workers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=workers.forget)


def chunk_count(size: int) -> int:
    """Into how many chunks to cut work on `size` numbers: four for each thread, or one."""
    threads = torch.get_num_threads()
    return 1 if threads == 1 or size < SERIAL else 4 * threads


def even_bounds(rows: int, width: int) -> list[int]:
    """Bounds of chunks of equally many rows."""
    chunks = chunk_count(rows * width)
    return [rows * i // chunks for i in range(chunks + 1)]
