"""What the frame engine asks of a data frame library and of its arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = Any
"""An array of the library: numpy's, or one that has its interface and DLPack's."""

Texts = Any
"""A Series of texts without missing values, indexed 0 … n−1."""

Frame = Any


class Refused(Exception):
    """What the frame engine does not compute as the database would; the message says what."""


class Library(Protocol):
    """A data frame library: the few things in which one differs from another.

    Columns it is given have no missing values: which rows are NULL is an array of its own. So the
    libraries' own rules for missing values, in which they differ, play no part.
    """

    arrays: Any
    """The module of its arrays: numpy, or one with numpy's interface."""

    def frame(self, columns: Mapping[str, Any]) -> Frame:
        """A frame of arrays or Series of equal length, indexed 0 … n−1."""

    def array(self, series: Any) -> Array:
        """The numbers of a Series."""

    def series(self, array: Array) -> Any:
        """An array as a Series, indexed 0 … n−1."""

    def concat(self, parts: Sequence[Texts]) -> Texts:
        """Texts one after the other."""

    def texts(self, array: pa.Array) -> Texts:
        """Arrow strings without NULLs."""

    def arrow(self, texts: Texts) -> pa.Array:
        """Texts as Arrow strings."""

    def ascii(self, texts: Texts) -> bool:
        """Whether all characters of all texts are ASCII."""

    def to_host(self, array: Array) -> npt.NDArray[Any]:
        """An array in the memory of the processor."""

    def to_device(self, array: npt.NDArray[Any]) -> Array:
        """An array where the library works."""


def rows(library: Library, count: int) -> Array:
    """0 … count−1."""
    return library.arrays.arange(count, dtype=np.int64)
