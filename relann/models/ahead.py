"""Things made one after the other, the next one on another thread while the last is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_POLL = 0.05  # seconds between two attempts to interrupt


class Ahead(Generic[K, V]):
    """What `make` makes of each key, in order; at most one is made ahead of the one that is taken.

    With `interrupt` they are made on a thread of their own, of which `close` leaves nothing: what
    is being made is interrupted until it ends. Without it each is made when it is taken, by whoever
    takes it. Errors are those of `make`, where the thing is taken.
    """

    def __init__(
        self,
        keys: Iterator[K],
        make: Callable[[K], V],
        interrupt: Callable[[], None] | None,
    ) -> None:
        self._keys = keys
        self._make = make
        self._interrupt = interrupt
        self._pool = None if interrupt is None else ThreadPoolExecutor(1, "relann ahead")
        self._next: tuple[K, Future[V]] | None = None
        self._ask()

    def take(self) -> tuple[K, V]:
        """The next key, and what was made of it. There are no more than keys were given."""
        if self._pool is None:
            key = next(self._keys)
            return key, self._make(key)
        assert self._next is not None
        key, future = self._next
        made = future.result()
        self._next = None
        del future  # which holds what it made
        self._ask()
        return key, made

    def _ask(self) -> None:
        if self._pool is not None:
            for key in self._keys:
                self._next = key, self._pool.submit(self._make, key)
                return

    def close(self) -> None:
        """End what is being made; nothing of it is left."""
        if self._pool is None:
            return
        assert self._interrupt is not None
        if self._next is not None:
            future = self._next[1]
            future.cancel()
            while not future.done():
                self._interrupt()
                wait([future], timeout=_POLL)
            self._next = None
        self._pool.shutdown()

    def __enter__(self) -> Ahead[K, V]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
