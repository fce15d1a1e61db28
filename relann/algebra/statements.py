"""What a user's text says, statement by statement."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlglot import Token, exp

from relann.errors import Span

Value = str | int | float | bool | None | tuple["Value", ...]


@dataclass(frozen=True)
class Literal:
    """A value written in a statement, and where."""

    value: Value
    span: Span


@dataclass(frozen=True)
class Option:
    """`name = value`, the name in lower case; `span` is the value's place."""

    name: str
    value: Value
    name_span: Span
    span: Span


@dataclass(frozen=True)
class LayerArgument:
    """An argument of a layer: a relation or a scalar, the default where one is given.

    `columns` are those a relation must have, as in `edge(src, dst)`; None if it does not say.
    """

    name: str
    span: Span
    default: Literal | None = None
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Statement:
    """One statement; `span` is its place in the user's whole text."""

    span: Span

    @property
    def sql(self) -> str:
        """The statement exactly as the user wrote it."""
        return self.span.text[self.span.start : self.span.end]


@dataclass(frozen=True)
class Body:
    """A query inside a statement: parsed, and where it stands.

    Nodes' `meta` hold `start` and `end` (the last character's offset) in `span.text`.
    """

    query: exp.Query
    span: Span


@dataclass(frozen=True)
class Create(Statement):
    """What `CREATE … name … AS` has in common."""

    name: str
    name_span: Span
    replace: bool


@dataclass(frozen=True)
class CreateModel(Create):
    """CREATE [OR REPLACE] MODEL name [OPTIONS (…)] AS SELECT …"""

    options: tuple[Option, ...]
    body: Body


@dataclass(frozen=True)
class ChooseModel(Create):
    """CREATE [OR REPLACE] MODEL name OPTIONS (auto = true, …), without a query: find one."""

    options: tuple[Option, ...]


@dataclass(frozen=True)
class CreateLayer(Create):
    """CREATE [OR REPLACE] LAYER name(argument, …) AS SELECT …"""

    arguments: tuple[LayerArgument, ...]
    body: Body


@dataclass(frozen=True)
class CreateTask(Create):
    """CREATE [OR REPLACE] TASK name [OPTIONS (…)] AS SELECT … | PREDICT …

    One of `body` and `predict` is None.
    """

    options: tuple[Option, ...]
    body: Body | None
    predict: Span | None


@dataclass(frozen=True)
class Explain(Statement):
    """EXPLAIN [ANALYZE] MODEL name, or MODEL [OPTIONS (…)] AS SELECT …

    One of `name` (it may be `model@version`) and `model` is None; `model` is what a statement or a
    bare query would make.
    """

    analyze: bool
    name: str | None
    name_span: Span | None
    model: CreateModel | None


@dataclass(frozen=True)
class Drop(Statement):
    """DROP MODEL | TASK | LAYER [IF EXISTS] name; `kind` is `model`, `task` or `layer`.

    The name of a model may end in `@version`: then that version only is meant.
    """

    kind: str
    name: str
    name_span: Span
    if_exists: bool


@dataclass(frozen=True)
class ExportModel(Statement):
    """EXPORT MODEL name TO 'folder'; `name` may be `model@version`."""

    name: str
    name_span: Span
    folder: Literal


@dataclass(frozen=True)
class ImportModel(Statement):
    """IMPORT [OR REPLACE] MODEL name FROM 'folder'"""

    name: str
    name_span: Span
    replace: bool
    folder: Literal


@dataclass(frozen=True)
class Show(Statement):
    """SHOW MODELS | TASKS | LAYERS | VERSIONS [OF model] | SCHEMA; `kind` is the first of these
    words, in lower case, and `name` the model's."""

    kind: str
    name: str | None = None
    name_span: Span | None = None


@dataclass(frozen=True)
class Named:
    """The name of a table, as quoted SQL, or of a column, plain; and where it stands."""

    name: str
    span: Span


@dataclass(frozen=True)
class Alter(Statement):
    """What the ALTER TABLE statements of ours have in common."""

    table: Named


@dataclass(frozen=True)
class SetFacts(Alter):
    """ALTER TABLE t SET (key = 'column' | NULL, time = 'column' | NULL); one may be missing."""

    options: tuple[Option, ...]


@dataclass(frozen=True)
class AddForeignKey(Alter):
    """ALTER TABLE t ADD FOREIGN KEY (column) REFERENCES references [(key)]"""

    column: Named
    references: Named
    key: Named | None


@dataclass(frozen=True)
class DropForeignKey(Alter):
    """ALTER TABLE t DROP FOREIGN KEY (column)"""

    column: Named


@dataclass(frozen=True)
class Passthrough(Statement):
    """Anything else, DuckDB's. `span` is all between the semicolons around it."""

    tokens: tuple[Token, ...] = field(compare=False, repr=False)
