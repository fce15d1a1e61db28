"""What the columns of a table are to a generated query: numbers, categories, times or nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from relann.models.generators.program import identifier, into, literal
from relann.schema import Catalog, Relation, Schema

_NUMBER = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL.*|BOOLEAN)\Z")
_CATEGORY = re.compile(r"VARCHAR|ENUM.*")
_TIME = re.compile(r"(DATE|TIMESTAMP.*)\Z")
_CODE = re.compile(r".*(Id|ID|_id)\Z")


def is_number(kind: str) -> bool:
    """Whether a column of a DuckDB type holds numbers or truth values."""
    return _NUMBER.match(kind) is not None


def is_category(kind: str) -> bool:
    """Whether a column of a DuckDB type holds text or one of listed words."""
    return _CATEGORY.match(kind) is not None


@dataclass(frozen=True)
class Value:
    """A column that says something of a row.

    name      its name in the sub-query that holds it
    sql       how it is read there
    kind      'number' (as a DOUBLE), 'category' or 'time'
    frequent  literals of a category's most frequent values
    derived   it was not the row's own: its parent's, its event's, its children's
    """

    name: str
    sql: str
    kind: str
    frequent: tuple[str, ...] = ()
    derived: bool = False


class Columns:
    """Which columns of each table are values; looks at the data, once for each column."""

    def __init__(
        self, schema: Schema, catalog: Catalog, most: int, before: datetime | None
    ) -> None:
        self._schema = schema
        self._catalog = catalog
        self._most = most
        self._before = before
        self._frequent: dict[tuple[str, str], tuple[str, ...] | None] = {}

    def of(self, relation: Relation, also_keys: Sequence[str | None] = ()) -> list[Value]:
        """A relation's values, their `sql` a bare column: all but keys, its time and free text."""
        keys = {relation.key, relation.time, *also_keys, *(f.column for f in relation.foreign)}
        keys |= {link.foreign.references for link in into(self._schema, relation)}
        found = []
        for name, kind in relation.table.columns:
            if name in keys:
                continue
            column = identifier(name)
            if _TIME.match(kind):
                found.append(Value(name, column, "time"))
            elif _CATEGORY.match(kind) or (_NUMBER.match(kind) and _CODE.match(name)):
                frequent = self._values(relation, name)
                if frequent is not None:
                    found.append(Value(name, column, "category", frequent))
            elif _NUMBER.match(kind):
                found.append(Value(name, column, "number"))
        return found

    def _values(self, relation: Relation, name: str) -> tuple[str, ...] | None:
        """The most frequent values of a column, None where most of its values are there once."""
        key = (relation.table.name, name)
        if key not in self._frequent:
            column, where = identifier(name), f"{identifier(name)} IS NOT NULL"
            if self._before is not None and relation.time is not None:
                where += f" AND {identifier(relation.time)} <= TIMESTAMP '{self._before}'"
            source = f"FROM {relation.table.name} WHERE {where}"
            ((rows, distinct),) = self._catalog.rows(
                f"SELECT count(*), count(DISTINCT {column}) {source}"
            )
            counted = self._catalog.rows(
                f"SELECT {column} {source} GROUP BY {column} ORDER BY count(*) DESC, {column} "
                f"LIMIT {self._most}"
            )
            values = tuple(literal(value) for (value,) in counted)
            self._frequent[key] = None if 2 * distinct > rows else values
        return self._frequent[key]


def read_from(value: Value, alias: str) -> str:
    """A number as a DOUBLE or a category as it is, of the relation of an alias."""
    sql = f"{alias}.{value.sql}"
    return f"{sql}::DOUBLE" if value.kind == "number" else sql
