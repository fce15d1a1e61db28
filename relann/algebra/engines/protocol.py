"""What every engine does: materialise content, number rows, group rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from relann.algebra.nodes import Node
from relann.algebra.plan import Plan, Rows
from relann.algebra.terms import Content

Ints = npt.NDArray[np.integer[Any]]

Numbers = Any
"""Whole numbers, one for each row, where the engine works: an array of one dimension that has
`__dlpack__`, so that it is read where it is. On the processor numpy's."""


def whole_numbers(array: pa.Array) -> Ints:
    """An Arrow array as numpy's, −1 where NULL; on the same memory if nothing is."""
    if array.null_count:
        array = array.fill_null(-1)
    return np.asarray(array.to_numpy(zero_copy_only=False))


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one chunk; on the same memory if it is one already."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


class Relation(Protocol):
    """Materialised rows, numbered 0 … count−1, in whatever form the engine likes."""

    @property
    def count(self) -> int:
        """How many rows there are."""


class Engine(Protocol):
    """The content side of the algebra over one database.

    Nodes are content only. Their leaves are Scan, Query and `plan.Held`, which `held` resolves; a
    Held relation shows its columns and its row number. Every method is deterministic: the same data
    gives the same rows in the same order, whatever the number of threads.
    """

    def rows(
        self,
        node: Node,
        columns: Sequence[str],
        order: Sequence[str],
        held: Mapping[int, Any],
    ) -> Any:
        """The rows of a node as a Relation with `columns`, sorted by `order` (NULLs last) first."""

    def sharing(
        self, nodes: Sequence[Node], spaces: Sequence[Rows]
    ) -> AbstractContextManager[None]:
        """As long as the block runs, `rows` may work out the rows of these nodes only once.

        A node stands after those it is made of, and reads nothing held. `spaces` are those whose
        rows the block asks for, each once.
        """

    def groups(
        self, source: Any, keys: Sequence[str], aggregates: Mapping[str, Content]
    ) -> tuple[Any, Numbers]:
        """One row per distinct `keys` (NULLs equal; one row in all without keys), with aggregates.

        Also the group of every source row. Groups are numbered in the order of their first row.
        """

    def stack(self, parts: Sequence[tuple[Any, Sequence[Content]]], names: Sequence[str]) -> Any:
        """The parts' rows one after the other; each part gives one expression for each name."""

    def arrays(self, source: Any, contents: Sequence[Content]) -> list[pa.Array]:
        """Each expression for every row of the relation, in row order."""

    def numbers(self, source: Any, contents: Sequence[Content]) -> list[Numbers]:
        """Each expression, a whole number, for every row, in row order; NULL is −1."""

    def remarks(self, plan: Plan) -> list[str]:
        """What EXPLAIN says of how the engine runs a plan, a line each; the database's own, none.

        It names the spaces that the engine leaves to the database, each with the reason.
        """

    def data_version(self, tables: Sequence[str]) -> str:
        """A fingerprint of the tables' contents: changes when any row does."""
