"""Which columns of a task's SELECT are entity, time, label and split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from relann.algebra.statements import Body
from relann.errors import QueryError, Span, did_you_mean, listing
from relann.models.tasks import TaskOptions
from relann.schema import Relation, Schema, unquoted

_NUMBER = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*)\Z")
_TIME = re.compile(r"(DATE|TIMESTAMP.*)\Z")


def is_number(kind: str) -> bool:
    """Whether a DuckDB type is one of numbers."""
    return bool(_NUMBER.match(kind)) and not is_list(kind)


def is_text(kind: str) -> bool:
    """Whether a DuckDB type is text; ENUM is."""
    return kind.startswith(("VARCHAR", "ENUM")) and not is_list(kind)


def is_time(kind: str) -> bool:
    """Whether a DuckDB type is a day or a moment."""
    return bool(_TIME.match(kind)) and not is_list(kind)


def is_list(kind: str) -> bool:
    """Whether a DuckDB type is a list of any length."""
    return kind.endswith("[]")


def like(one: str, other: str) -> bool:
    """Whether values of two types can be the same key: both text, or neither."""
    return is_text(one) == is_text(other)


@dataclass(frozen=True)
class Columns:
    """The columns a SELECT's seeds are made of; `split` is None where timestamps split.

    `table` and `item_table` are quoted SQL, `key` and `item` their keys; None if unknown. `notes`
    say what was assumed and left out.
    """

    entity: str
    table: str | None
    key: str | None
    time: str
    label: str
    split: str | None
    item: str | None
    item_table: str | None
    notes: tuple[str, ...]


def stated(
    types: Mapping[str, str], body: Body, schema: Schema, options: TaskOptions, place: Span
) -> Columns:
    """The columns that the options name, or the only ones that can be meant.

    Raises QueryError for names that are not there, types that do not fit, and where several columns
    can be meant; `place` is underlined where no option says anything.
    """
    found = _Columns(types, body, schema, options, place)
    split = found.split()
    time = found.time(split)
    entity, table, key = found.entity({time, split})
    label = found.label({entity, time, split})
    item, item_table = found.items()
    names = [n for n in (entity, time, label, split or "split") if n is not None]
    if len({n.casefold() for n in names}) < len(names):
        raise QueryError(
            f"entity, time, label and split are different columns, not {listing(names)}", place
        )
    if found.assumed:
        found.notes.insert(0, f"assumed: {listing(found.assumed)}")
    if left := [n for n in types if n not in names]:
        found.notes.append(f"columns that are not kept: {listing(left)}")
    return Columns(entity, table, key, time, label, split, item, item_table, tuple(found.notes))


class _Columns:
    def __init__(
        self,
        types: Mapping[str, str],
        body: Body,
        schema: Schema,
        options: TaskOptions,
        place: Span,
    ) -> None:
        self._types = types
        self._schema = schema
        self._options = options
        self._place = place
        self._read = [
            r for t in body.query.find_all(exp.Table) if (r := schema.find(t.name)) is not None
        ]
        self.notes: list[str] = []
        self.assumed: list[str] = []

    def split(self) -> str | None:
        """The column that splits; None where timestamps do."""
        options = self._options
        name = self._named("split")
        if name is None and options.val is None:
            name = next((n for n in self._types if n.casefold() == "split"), None)
            if name is None:
                raise QueryError(
                    "a task needs splits: a column that says 'train', 'val' or 'test', by "
                    "OPTIONS (split = 'column'), or timestamps, by "
                    "OPTIONS (val = '2005-01-01', test = '2010-01-01')",
                    self._place,
                )
            self.assumed.append(f"split = '{name}'")
        if name is not None and not is_text(self._types[name]):
            raise QueryError(
                f"the split column `{name}` is {self._types[name]}; it is text that says 'train', "
                "'val' or 'test'",
                options.span("split") or self._place,
            )
        return name

    def time(self, split: str | None) -> str:
        """The column of anchors."""
        name = self._named("time")
        if name is None:
            taken = (split, self._options.label, self._options.entity)
            times = [n for n, t in self._types.items() if is_time(t) and n not in taken]
            return self._only("time", times, "no column is a DATE or TIMESTAMP")
        kind = self._types[name]
        if not is_time(kind):
            hint = f"; a year is made one by make_date({name}, 1, 1)" if "INT" in kind else ""
            raise QueryError(
                f"`{name}` is {kind}, not a time: anchors are DATE or TIMESTAMP{hint}",
                self._options.span("time"),
            )
        return name

    def entity(self, taken: set[str | None]) -> tuple[str, str | None, str | None]:
        """The column of entity keys, the table they are keys of, and its key."""
        wanted = None if self._options.table is None else self._relation("table")
        name = self._named("entity")
        if name is None:
            free = [n for n in self._types if n not in taken and n != self._options.label]
            able = [n for n in free if self._tables(n, wanted)]
            name = self._only(
                "entity",
                able,
                "no column is named like the key of a table or a foreign key"
                + (f" to `{unquoted(wanted.table.name)}`" if wanted else ""),
            )
        tables = [wanted] if wanted is not None else self._tables(name, None)
        if len(tables) != 1:
            why = "no table is known to have" if not tables else "several tables have"
            self.notes.append(
                f"{why} `{name}` as key, so it is not checked; OPTIONS (table = '…') says which"
            )
            return name, None, None
        relation = tables[0]
        if wanted is None:
            self.assumed.append(f"table = '{unquoted(relation.table.name)}'")
        key = relation.key
        if key is None:
            self.notes.append(
                f"no key of `{unquoted(relation.table.name)}` is known, so `{name}` is not checked"
            )
        elif not like(self._types[name], dict(relation.table.columns)[key]):
            raise QueryError(
                f"`{name}` is {self._types[name]}, and the key `{key}` of "
                f"`{unquoted(relation.table.name)}` is {dict(relation.table.columns)[key]}",
                self._options.span("entity") or self._place,
            )
        return name, relation.table.name, key

    def label(self, taken: set[str | None]) -> str:
        """The column to predict."""
        name = self._named("label")
        if name is not None:
            return name
        left = [n for n in self._types if n not in taken]
        return self._only("label", left, "no column is left")

    def items(self) -> tuple[str | None, str | None]:
        """Key and name of the table whose rows are ranked."""
        if self._options.item_table is None:
            return None, None
        relation = self._relation("item_table")
        return relation.key, relation.table.name

    def _named(self, option: str) -> str | None:
        """The column that an option names, as the SELECT has it."""
        given: str | None = getattr(self._options, option)
        if given is None:
            return None
        for name in self._types:
            if name.casefold() == given.casefold():
                return name
        raise QueryError(
            f"the query has no column `{given}`; it has {listing(self._types)}."
            + did_you_mean(given, self._types),
            self._options.span(option),
        )

    def _only(self, what: str, able: Sequence[str], none: str) -> str:
        if len(able) == 1:
            self.assumed.append(f"{what} = '{able[0]}'")
            return able[0]
        why = f"{listing(able)} can be meant" if able else none
        raise QueryError(
            f"which column is the {what} is not clear: {why}. Say OPTIONS ({what} = '…'); "
            f"the query has {listing(self._types)}",
            self._place,
        )

    def _tables(self, name: str, wanted: Relation | None) -> list[Relation]:
        """Tables whose rows a column of this name tells apart, those the SELECT reads if any."""
        found: list[Relation] = []
        for relation in self._schema.relations.values():
            if relation.key is not None and relation.key.casefold() == name.casefold():
                found.append(relation)
            for foreign in relation.foreign:
                if foreign.column.casefold() == name.casefold():
                    target = self._schema.find(foreign.table)
                    found += [] if target is None else [target]
        tables = [r for n, r in enumerate(found) if r not in found[:n]]
        if wanted is not None:
            return [r for r in tables if r is wanted]
        read = [r for r in tables if r in self._read]
        return read if len(tables) > 1 and read else tables

    def _relation(self, option: str) -> Relation:
        given = getattr(self._options, option)
        found = self._schema.find(given)
        if found is None:
            known = [unquoted(n) for n in self._schema.relations]
            raise QueryError(
                f"there is no table `{given}`; there are {listing(known) or 'none'}."
                + did_you_mean(given, known),
                self._options.span(option),
            )
        return found
