"""What the SQL of a trained model reads beside the user's tables: its weights, its vocabularies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from relann.algebra.nodes import Column, Query
from relann.algebra.terms import Key, quoted
from relann.errors import DataError
from relann.provenance.encoders import Encoders
from relann.provenance.sql_elements import text_of

Array = npt.NDArray[np.floating]


class Kept:
    """The arrays and vocabularies that some SQL reads, gathered while it is written.

    weights     (parameter, key, output, numbers): one row for each key's set (1, 2, …; 1 where a
                parameter has one set only) and each output of a matrix: the numbers that its
                inputs are multiplied with. A vector is one output.
    keys SITE   the parts of each key (p0, p1, …) and its number, from 1

    `named` gives the name of a table as SQL, `kind` is the SQL type of numbers.
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        encoders: Encoders,
        named: Callable[[str], str],
        kind: str,
    ) -> None:
        self.kind = kind
        self.encoders = encoders
        self._arrays = arrays
        self._table = named
        self._held: dict[str, Array] = {}
        self._sites: dict[str, None] = {}

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by the names that `named` is asked for."""
        found = {"weights": self._weights()}
        for site in self._sites:
            table = self.encoders.vocabularies[site].table.drop_columns(["rows"])
            numbers = pa.array(np.arange(1, table.num_rows + 1, dtype=np.int32))
            found[f"keys {site}"] = table.append_column("number", numbers)
        return found

    def _weights(self) -> pa.Table:
        columns: list[list[object]] = [[], [], [], []]
        for name, array in self._held.items():
            for key, output in np.ndindex(*array.shape[:2]):
                row = (name, key + 1, output + 1, array[key, output])
                for column, value in zip(columns, row, strict=True):
                    column.append(value)
        number = pa.float32() if self.kind == "FLOAT" else pa.float64()
        kinds = (pa.string(), pa.int32(), pa.int32(), pa.list_(number))
        names = ("parameter", "key", "output", "numbers")
        return pa.table({n: pa.array(c, t) for n, c, t in zip(names, columns, kinds, strict=True)})

    def _keep(self, name: str, change: Sequence[int] | None) -> None:
        """Note that a parameter is read; `change` is the shape it is seen in."""
        if name not in self._arrays:
            raise DataError(f"the weights lack `{name}`")
        array = self._arrays[name]
        self._held[name] = array.reshape(change) if change is not None else array

    def vector(self, name: str, width: int, columns: Sequence[str]) -> Query:
        """A parameter of one set: one row, its numbers as columns."""
        self._keep(name, (1, 1, width))
        numbers = ", ".join(f"numbers[{i + 1}] AS {quoted(c)}" for i, c in enumerate(columns))
        sql = f"SELECT {numbers} FROM {self._table('weights')} WHERE parameter = {text_of(name)}"
        return Query(sql, tuple(Column(c, type=self.kind) for c in columns))

    def matrix(
        self,
        name: str,
        heads: int,
        keyed: bool,
        rows: tuple[int, int] | None,
        columns: Sequence[str],
    ) -> Query:
        """The weights of a product: one row, for each output a column, the list of its weights.

        With `keyed` each column is the list of these lists, one for each key.
        """
        array = self._arrays.get(name)
        if array is not None:
            inner, outer = array.shape[-2:]
            array = array.reshape(-1, heads, inner, outer).transpose(0, 1, 3, 2)
            self._held[name] = array.reshape(-1, heads * outer, inner)
        numbers = "numbers" if rows is None else f"numbers[{rows[0] + 1}:{rows[1]}]"
        gathered = f"list({numbers} ORDER BY key)" if keyed else f"any_value({numbers})"
        outputs = ", ".join(
            f"{gathered} FILTER (WHERE output = {i + 1}) AS {quoted(c)}"
            for i, c in enumerate(columns)
        )
        sql = f"SELECT {outputs} FROM {self._table('weights')} WHERE parameter = {text_of(name)}"
        kind = f"{self.kind}[][]" if keyed else f"{self.kind}[]"
        return Query(sql, tuple(Column(c, type=kind) for c in columns))

    def numbered(self, key: Key, parts: Sequence[str], number: str) -> Query:
        """The keys of a vocabulary and their numbers."""
        self._sites[key.site] = None
        shown = ", ".join(f"p{i} AS {quoted(p)}" for i, p in enumerate(parts))
        sql = f"SELECT {shown}, number AS {quoted(number)} FROM {self._table(f'keys {key.site}')}"
        kinds = [Column(p, type=c.type) for p, c in zip(parts, key.parts, strict=True)]
        return Query(sql, (*kinds, Column(number, type="INTEGER")))

    def by_key(self, name: str, width: int, key: Key, parts: Sequence[str], list_: str) -> Query:
        """The keys of a vocabulary and the set that each has of a vector, as a list."""
        self._sites[key.site] = None
        self._keep(name, (-1, 1, width))
        shown = ", ".join(f"k.p{i} AS {quoted(p)}" for i, p in enumerate(parts))
        sql = (
            f"SELECT {shown}, w.numbers AS {quoted(list_)} "
            f"FROM {self._table(f'keys {key.site}')} AS k JOIN {self._table('weights')} AS w "
            f"ON w.key = k.number AND w.parameter = {text_of(name)}"
        )
        kinds = [Column(p, type=c.type) for p, c in zip(parts, key.parts, strict=True)]
        return Query(sql, (*kinds, Column(list_, type=f"{self.kind}[]")))

    def buckets(self, name: str, width: int) -> str:
        """(key, numbers) of a table of words, as a SELECT."""
        self._keep(name, (-1, 1, width))
        return (
            f"SELECT key, numbers FROM {self._table('weights')} WHERE parameter = {text_of(name)}"
        )
