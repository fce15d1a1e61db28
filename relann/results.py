"""What a statement gives back: rows, or a line that says what it did."""

from __future__ import annotations

import html
import shutil
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from rich.box import ROUNDED
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relann.errors import DataError

ROWS_SHOWN = 20
_NARROWEST = 8  # characters a column needs to be worth showing
_FRAME = 3  # characters between columns
_ITEMS_SHOWN = 4
_CELL = 60


class Result:
    """Rows as an Arrow table, in the order the database gave them; read as often as you like.

    `message` says what a statement without rows did. `types` are DuckDB's names of the columns'
    types; they default to Arrow's. Printing shows the first `rows_shown` rows.
    """

    def __init__(
        self,
        table: pa.Table | None = None,
        types: Sequence[str] = (),
        message: str = "",
        rows_shown: int = ROWS_SHOWN,
    ) -> None:
        self._table = pa.table({}) if table is None else table
        self._types = [t.strip('"') for t in types] or [str(t) for t in self._table.schema.types]
        self._next = 0
        self._rows_shown = rows_shown
        self.message = message

    @property
    def columns(self) -> list[str]:
        """Names of the columns; empty for a statement without rows."""
        return list(self._table.column_names)

    @property
    def types(self) -> list[str]:
        """Types of the columns, as DuckDB calls them."""
        return list(self._types)

    def arrow(self) -> pa.Table:
        """The rows as they are held; nothing is copied."""
        return self._table

    def df(self) -> pd.DataFrame:
        """The rows as a data frame: HUGEINT as int64 where it fits, DECIMAL as float64.

        NULL is what pandas makes of it: NaN, NaT or None; `FLOAT[n]` becomes arrays.
        """
        columns = [_plain_numbers(c) for c in self._table.columns]
        table = pa.Table.from_arrays(columns, names=self._table.column_names)
        frame: pd.DataFrame = table.to_pandas(date_as_object=False, maps_as_pydicts="lossy")
        return frame

    def torch(self) -> dict[str, torch.Tensor]:
        """A tensor for each column: numbers and booleans as (rows,), `FLOAT[n]` as (rows, n).

        NULL becomes NaN in a column of floats. Raises DataError for NULL among integers or
        booleans, for other types (name the columns you want, or encode them) and for two columns
        of one name.
        """
        for name in (names := self._table.column_names):
            if names.count(name) > 1:
                raise DataError(f"two columns are named `{name}`; give one another name")
        columns = zip(names, self._table.columns, self._types, strict=True)
        return {name: _tensor(name, column, kind) for name, column, kind in columns}

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows as tuples of Python values, however often it is called."""
        columns = [
            _python_values(column, kind)
            for column, kind in zip(self._table.columns, self._types, strict=True)
        ]
        return list(zip(*columns, strict=True))

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row, None after the last."""
        rows = Result(self._table.slice(self._next, 1), self._types).fetchall()
        self._next += len(rows)
        return rows[0] if rows else None

    def __len__(self) -> int:
        return int(self._table.num_rows) if self._table.num_columns else 0

    def __bool__(self) -> bool:
        """True, also without rows: use len() to ask for rows."""
        return True

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.fetchall())

    def __repr__(self) -> str:
        if not self.columns:
            return self.message
        out = StringIO()
        width = shutil.get_terminal_size((100, 24)).columns
        Console(file=out, width=width, color_system=None, legacy_windows=False).print(self)
        return out.getvalue().rstrip("\n")

    def __rich_console__(self, console: Console, options: Any) -> Iterator[Any]:
        """The rows as a box that fits the console, cut to its width and to some twenty rows."""
        if not self.columns:
            yield Text(self.message)
            return
        cells = [self._cells(index) for index in range(len(self.columns))]
        kinds = [kind.lower() for kind in self._types]
        natural = [
            max(cell_len(text) for text in (name, kind, *column))
            for name, kind, column in zip(self.columns, kinds, cells, strict=True)
        ]
        table = Table(box=ROUNDED)
        shown = _layout(natural, options.max_width - 1)
        for index, width in shown:
            number = index is not None and _is_number(self._table.schema.types[index])
            name = "…" if index is None else self.columns[index]
            kind = "" if index is None else kinds[index]
            table.add_column(
                Text.assemble((name, "bold"), "\n", (kind, "dim"), no_wrap=True),
                justify="right" if number else "left",
                width=width,
            )
        for row in range(min(len(self), self._rows_shown)):
            texts = ["…" if index is None else cells[index][row] for index, _ in shown]
            table.add_row(*(Text(t, overflow="ellipsis", no_wrap=True) for t in texts))
        yield table
        yield Text(self._count(), style="dim", no_wrap=True, overflow="ignore")

    def _repr_html_(self) -> str:
        """The first rows as an HTML table, for notebooks."""
        if not self.columns:
            return f"<pre>{html.escape(self.message)}</pre>"
        heads = "".join(
            f"<th>{html.escape(name)}<br><small>{html.escape(kind.lower())}</small></th>"
            for name, kind in zip(self.columns, self._types, strict=True)
        )
        cells = [self._cells(index) for index in range(len(self.columns))]
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in zip(*cells, strict=True)
        )
        return (
            f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
            f"<small>{html.escape(self._count())}</small>"
        )

    def _cells(self, index: int) -> list[str]:
        column = self._table.column(index).slice(0, self._rows_shown)
        return [_cell(value, column.type) for value in _python_values(column, self._types[index])]

    def _count(self) -> str:
        rows, columns = len(self), len(self.columns)
        shown = f" ({self._rows_shown} shown)" if rows > self._rows_shown else ""
        names = "column" if columns == 1 else "columns"
        return f"{rows:,} {'row' if rows == 1 else 'rows'}{shown}, {columns} {names}"


def _layout(natural: list[int], room: int) -> list[tuple[int | None, int]]:
    """The columns that fit `room` characters and their widths; None stands for those left out.

    Columns in the middle are left out first, then the widest ones are narrowed.
    """
    shown: list[int | None] = list(range(len(natural)))
    least = [min(width, _NARROWEST) for width in natural]

    def taken(widths: list[int]) -> int:
        return sum(width + _FRAME for width in widths)

    def widths(cap: int) -> list[int]:
        return [1 if i is None else min(natural[i], max(cap, least[i])) for i in shown]

    if taken(least) > room:
        ahead, behind = list(range((len(natural) + 1) // 2)), list(range(len(natural)))
        behind = behind[len(ahead) :]
        while len(ahead + behind) > 1 and taken([1, *(least[i] for i in ahead + behind)]) > room:
            if len(behind) >= len(ahead):
                behind.pop(0)
            else:
                ahead.pop()
        shown = [*ahead, None, *behind]
    cap = max(natural, default=0)
    while cap > _NARROWEST and taken(widths(cap)) > room:
        cap -= 1
    return list(zip(shown, widths(cap), strict=True))


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _python_values(column: pa.ChunkedArray, kind: str) -> list[Any]:
    """Python values of a column; DuckDB's types that Arrow does not have come back as they were."""
    values: list[Any] = column.to_pylist(maps_as_pydicts="lossy" if "MAP(" in kind else None)
    convert: Callable[[Any], Any] | None = {"HUGEINT": int, "UHUGEINT": int, "UUID": UUID}.get(kind)
    return [v if v is None else convert(v) for v in values] if convert else values


def _plain_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decimals as int64 when they are whole and fit, else as float64; other columns as they are."""
    if not pa.types.is_decimal(column.type):
        return column
    if column.type.scale == 0:
        try:
            return pc.cast(column, pa.int64())
        except pa.ArrowInvalid:
            return pc.cast(column, pa.float64())
    return pc.cast(column, pa.float64())


def _tensor(name: str, column: pa.ChunkedArray, kind: str) -> torch.Tensor:
    array = _plain_numbers(column).combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # without any chunk
        array = pa.concat_arrays(array.chunks) if array.chunks else pa.array([], array.type)
    if pa.types.is_fixed_size_list(array.type) and pa.types.is_floating(array.type.value_type):
        return _matrix(array)
    number = pa.types.is_integer(array.type) or pa.types.is_floating(array.type)
    if not number and not pa.types.is_boolean(array.type):
        raise DataError(
            f"column `{name}` is {kind}, not numbers; leave it out or turn it into numbers"
        )
    if array.null_count and not pa.types.is_floating(array.type):
        raise DataError(
            f"column `{name}` ({kind}) holds {array.null_count} NULL; fill them with coalesce, "
            "or cast the column to a float, where they become NaN"
        )
    return torch.from_numpy(np.array(array.to_numpy(zero_copy_only=False)))


def _matrix(array: pa.FixedSizeListArray) -> torch.Tensor:
    """(rows, n); a NULL vector or element is NaN."""
    width = array.type.list_size
    missing = array.is_null().to_numpy(zero_copy_only=False)
    begin = array.offset * width
    values = array.values.slice(begin, len(array) * width).to_numpy(zero_copy_only=False)
    matrix = np.array(values).reshape(len(array), width)
    matrix[missing] = np.nan
    return torch.from_numpy(matrix)


def _cell(value: Any, kind: pa.DataType) -> str:
    """A value as it is shown: short, on one line."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case float():
            return str(np.float32(value)) if kind == pa.float32() else str(value)
        case list() if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
            items = [_cell(item, kind.value_type) for item in value[:_ITEMS_SHOWN]]
            more = [f"… {len(value)} in all"] if len(value) > _ITEMS_SHOWN else []
            return "[" + ", ".join(items + more) + "]"
        case pa.MonthDayNano():
            return _duration(value)
        case bytes():
            return f"{value[:8].hex(' ')}{' …' if len(value) > 8 else ''}"
    text = " ".join(str(value).splitlines())
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def _duration(value: pa.MonthDayNano) -> str:
    months, days, nanoseconds = value
    parts = [f"{n} {unit}" for n, unit in ((months, "months"), (days, "days")) if n]
    if nanoseconds or not parts:
        parts.append(f"{nanoseconds / 1e9:g} s")
    return " ".join(parts)
