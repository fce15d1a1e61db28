"""The frame engine over cuDF and CuPy: content queries on an NVIDIA GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from relann.algebra.engines.frames.engine import FrameEngine
from relann.errors import EngineError

INSTALL = "pip install 'relann[gpu]'"


class CuDF:
    """See `Library`. Both modules are loaded here, as they look for a GPU when they are."""

    def __init__(self) -> None:
        import cudf
        import cupy

        self._cudf = cudf
        self.arrays: Any = cupy

    def frame(self, columns: Mapping[str, Any]) -> Any:
        """See `Library.frame`."""
        return self._cudf.DataFrame(dict(columns))

    def array(self, series: Any) -> Any:
        """See `Library.array`: the Series' own memory where it can be."""
        return series.to_cupy()

    def series(self, array: Any) -> Any:
        """See `Library.series`."""
        return self._cudf.Series(array)

    def concat(self, parts: Sequence[Any]) -> Any:
        """See `Library.concat`."""
        return self._cudf.concat(list(parts), ignore_index=True)

    def texts(self, array: pa.Array) -> Any:
        """See `Library.texts`."""
        return self._cudf.Series.from_arrow(array)

    def arrow(self, texts: Any) -> pa.Array:
        """See `Library.arrow`."""
        return texts.to_arrow().cast(pa.string())

    def ascii(self, texts: Any) -> bool:
        """See `Library.ascii`: as many bytes as characters."""
        return bool((texts.str.byte_count() == texts.str.len()).all())

    def to_host(self, array: Any) -> npt.NDArray[Any]:
        """See `Library.to_host`."""
        host: npt.NDArray[Any] = self.arrays.asnumpy(array)
        return host

    def to_device(self, array: npt.NDArray[Any]) -> Any:
        """See `Library.to_device`."""
        return self.arrays.asarray(np.ascontiguousarray(array))


def make(connection: duckdb.DuckDBPyConnection) -> FrameEngine:
    """The engine over cuDF on a connection; EngineError where a piece or the GPU is missing."""
    if (found := missing()) is not None:
        raise EngineError(f"the engine cudf cannot run: {found}")
    return FrameEngine(connection, CuDF(), "cudf")


def missing() -> str | None:
    """What is missing before the engine runs, and how to get it; None if nothing is."""
    for name in ("cudf", "cupy"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed; {INSTALL}"
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CUDA finds no GPU ({error}); look at nvidia-smi and the driver"
    return None if count else "CUDA finds no GPU; look at nvidia-smi and the driver"
