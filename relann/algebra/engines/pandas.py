"""The frame engine over pandas and numpy: the check of the frame engine on any machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from relann.algebra.engines.frames.engine import FrameEngine


class Pandas:
    """See `Library`."""

    arrays: Any = np

    def frame(self, columns: Mapping[str, Any]) -> Any:
        """See `Library.frame`."""
        return pd.DataFrame(columns)

    def array(self, series: Any) -> Any:
        """See `Library.array`."""
        return series.to_numpy()

    def series(self, array: Any) -> Any:
        """See `Library.series`."""
        return pd.Series(array)

    def concat(self, parts: Sequence[Any]) -> Any:
        """See `Library.concat`."""
        return pd.concat(parts, ignore_index=True)

    def texts(self, array: pa.Array) -> Any:
        """See `Library.texts`."""
        return pd.Series(array.to_pylist(), dtype="str")

    def arrow(self, texts: Any) -> pa.Array:
        """See `Library.arrow`."""
        return pa.array(texts.to_list(), pa.string())

    def ascii(self, texts: Any) -> bool:
        """See `Library.ascii`."""
        return bool(texts.str.isascii().all())

    def to_host(self, array: Any) -> npt.NDArray[Any]:
        """See `Library.to_host`."""
        return np.asarray(array)

    def to_device(self, array: npt.NDArray[Any]) -> Any:
        """See `Library.to_device`."""
        return np.asarray(array)


def make(connection: duckdb.DuckDBPyConnection, fall_back: bool = True) -> FrameEngine:
    """The engine over pandas on a connection."""
    return FrameEngine(connection, Pandas(), "pandas", fall_back)


def missing() -> str | None:
    """What to install before the engine runs: nothing."""
    return None
