"""What an expression is worked out over: the rows of some columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlglot import exp

from relann.algebra.engines.frames.library import Array, Library, Refused
from relann.algebra.engines.frames.vectors import Vector
from relann.algebra.engines.interpreter import scalar
from relann.errors import DataError, EngineError

Known = Mapping[int, Vector]


class Operands:
    """The rows of some columns, and how to work out a sub-expression over them.

    `known` holds values of sub-expressions by identity: of aggregates and window functions.
    """

    def __init__(
        self,
        library: Library,
        columns: Mapping[str, Vector],
        count: int,
        known: Known | None = None,
    ) -> None:
        self.library = library
        self.columns = columns
        self.count = count
        self.known = known or {}

    @property
    def arrays(self) -> Any:
        """The library's module of arrays."""
        return self.library.arrays

    def value(self, node: exp.Expr) -> Vector:
        """An expression's value for each row; Refused for what is not understood."""
        raise NotImplementedError


Operator = Callable[[Operands, Any], Vector]
"""The value of one kind of expression for each row."""


def filled(of: Operands, vector: Vector, value: Any) -> Array:
    """Values, another one in the rows that are NULL."""
    if vector.valid is None:
        return vector.values
    return of.arrays.where(vector.valid, vector.values, value).astype(vector.values.dtype)


def folded(node: exp.Expr) -> Any:
    """The Python value of an expression without columns."""
    try:
        return scalar.evaluate(node, {})
    except (EngineError, DataError) as error:
        raise Refused(str(error).replace("the reference engine has no ", "")) from None
