"""Statements of a user's text: our heads read by hand, their bodies parsed, the rest left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import Token, TokenType

from relann.algebra import pql_parse
from relann.algebra.bodies import QUERY_HEADS
from relann.algebra.cursor import Cursor
from relann.algebra.lexing import STRINGS, Lexed, check_brackets, lex, nearest, word
from relann.algebra.statements import (
    AddForeignKey,
    ChooseModel,
    CreateLayer,
    CreateModel,
    CreateTask,
    Drop,
    DropForeignKey,
    Explain,
    ExportModel,
    ImportModel,
    LayerArgument,
    Literal,
    Option,
    Passthrough,
    SetFacts,
    Show,
    Statement,
)
from relann.errors import QueryError, Span

_KINDS = ("MODEL", "TASK", "LAYER")
_PLURALS = tuple(kind + "S" for kind in _KINDS)
_FACTS = ("KEY", "TIME")
_NEARLY_FACTS = {
    "PK": "KEY", "PKEY": "KEY", "PRIMARY_KEY": "KEY", "PRIMARY": "KEY", "ID": "KEY",
    "TIME_COL": "TIME", "TIME_COLUMN": "TIME", "TIMESTAMP": "TIME", "TS": "TIME",
}  # fmt: skip
_HEADS = ("CREATE", "DROP", "SHOW", "EXPLAIN", "EXPORT", "IMPORT")
_DUCKDB_KINDS = (
    "DATABASE", "FUNCTION", "INDEX", "MACRO", "PERSISTENT", "SCHEMA", "SECRET", "SEQUENCE",
    "TABLE", "TEMP", "TEMPORARY", "TRIGGER", "TYPE", "UNIQUE", "USER", "VARIABLE", "VIEW",
)  # fmt: skip
_DUCKDB_HEADS = (
    "ABORT", "ALTER", "ANALYZE", "ATTACH", "BEGIN", "CALL", "CHECKPOINT", "COMMENT", "COMMIT",
    "CONNECT", "COPY", "DEALLOCATE", "DELETE", "DESC", "DESCRIBE", "DETACH", "DISCONNECT", "END",
    "EXECUTE", "EXPORT", "FORCE", "FROM", "GRANT", "IMPORT", "INSERT", "INSTALL", "LOAD", "MERGE",
    "PIVOT", "PIVOT_LONGER", "PIVOT_WIDER", "PRAGMA", "PREPARE", "RESET", "REVOKE", "ROLLBACK",
    "SELECT", "SET", "START", "SUMMARIZE", "TABLE", "TRUNCATE", "UNPIVOT", "UPDATE", "USE",
    "VACUUM", "VALUES", "WITH",
)  # fmt: skip


def statements(text: str) -> list[Statement]:
    """The statements of a text, in order; none for a text of blanks and comments.

    Raises QueryError where a statement of ours is wrong, before anything has run. What stands
    between two statements' spans is blanks, comments and semicolons.
    """
    lexed = lex(text)
    found: list[Statement] = []
    begin, tokens = 0, list[Token]()
    for token in lexed.tokens:
        if token.token_type != TokenType.SEMICOLON:
            tokens.append(token)
            continue
        if tokens:
            found.append(_statement(lexed, tokens, Span(text, begin, token.start)))
        begin, tokens = token.end + 1, []
    if tokens:
        found.append(_statement(lexed, tokens, Span(text, begin, len(text))))
    return found


def explanation(text: str, analyze: bool = False) -> list[Explain]:
    """What explaining a text means: a stored model's name, a query as a body, or statements.

    Of statements, every model they create or explain. Raises QueryError when there is none.
    """
    lexed = lex(text)
    tokens = [t for t in lexed.tokens if t.token_type != TokenType.SEMICOLON]
    if not tokens:
        raise QueryError("there is nothing to explain: give a model's name or a query")
    cursor = Cursor(lexed, tokens)
    if cursor.is_reference():
        name, span = cursor.reference("model")
        return [Explain(span, analyze, name, span, None)]
    found: list[Explain] = []
    for statement in statements(text):
        match statement:
            case Explain():
                found.append(replace(statement, analyze=analyze or statement.analyze))
            case CreateModel(span):
                found.append(Explain(span, analyze, None, None, statement))
            case Passthrough(span, own) if word(own[0]) in (*QUERY_HEADS, "("):
                found.append(_of_query(Cursor(lexed, own), analyze))
    if not found:
        raise QueryError("there is no model here to explain", cursor.whole)
    return found


def _statement(lexed: Lexed, tokens: list[Token], piece: Span) -> Statement:
    cursor = Cursor(lexed, tokens)
    if cursor.take("CREATE"):
        replace = cursor.take("OR", "REPLACE")
        for kind in _KINDS:
            if cursor.take(kind):
                check_brackets(lexed, tokens)
                return _create(cursor, kind, replace)
    elif cursor.take("EXPLAIN"):
        analyze = cursor.take("ANALYZE")
        if cursor.take("MODEL"):
            check_brackets(lexed, tokens)
            return _explain(cursor, analyze)
    elif cursor.take("EXPORT", "MODEL"):
        return _export(cursor)
    elif cursor.take("IMPORT", "MODEL") or cursor.take("IMPORT", "OR", "REPLACE", "MODEL"):
        return _import(cursor, word(cursor.tokens[1]) == "OR")
    elif cursor.take("DROP"):
        for kind in _KINDS:
            if cursor.take(kind):
                return _drop(cursor, kind)
    elif cursor.take("SHOW"):
        for kind in _KINDS:
            if cursor.take(kind + "S"):
                cursor.end(f"SHOW {kind}S takes nothing more")
                return Show(cursor.whole, kind.lower() + "s")
        if cursor.take("VERSIONS"):
            return _versions(cursor)
        if cursor.at("SCHEMA") and len(tokens) == 2:
            return Show(cursor.whole, "schema")
    elif cursor.take("ALTER", "TABLE") and (found := _alter(cursor)):
        return found
    _refuse_near_misses(lexed, tokens)
    return Passthrough(piece, tuple(tokens))


def _create(cursor: Cursor, kind: str, replace: bool) -> Statement:
    what = kind.lower()
    if cursor.at("IF", "NOT", "EXISTS"):
        raise cursor.error(f"a {what} has no IF NOT EXISTS; write CREATE OR REPLACE {kind}")
    name, name_span = cursor.name(what)
    head = (cursor.whole, name, name_span, replace)
    if kind == "LAYER":
        arguments = _layer_arguments(cursor)
        _as(cursor, "AS before the layer's query")
        return CreateLayer(*head, arguments, cursor.body("the layer's query"))
    options = _options(cursor)
    if kind == "MODEL" and any(o.name == "auto" for o in options) and not cursor.at("AS"):
        cursor.end("with auto = true a model's query is looked for, so none is written")
        return ChooseModel(*head, options)
    wanted = "AS" if options else "OPTIONS (…) or AS"
    _as(cursor, f"{wanted} before the {what}'s query")
    if kind == "MODEL":
        return CreateModel(*head, options, cursor.body("the model's query"))
    if cursor.at("PREDICT"):
        pql_parse.parsed(cursor.lexed, cursor.tokens[cursor.index :])  # errors before anything runs
        return CreateTask(*head, options, None, cursor.rest())
    return CreateTask(*head, options, cursor.body("the task's query"), None)


def _explain(cursor: Cursor, analyze: bool) -> Explain:
    if cursor.at("AS") or cursor.at("OPTIONS", "("):
        options = _options(cursor)
        _as(cursor, "AS before the model's query")
        return _of_query(cursor, analyze, options)
    name, span = cursor.reference("model")
    cursor.end(
        "the statement should end here; to explain a query write EXPLAIN MODEL AS SELECT … or "
        "EXPLAIN MODEL OPTIONS (…) AS SELECT …"
    )
    return Explain(cursor.whole, analyze, name, span, None)


def _of_query(cursor: Cursor, analyze: bool, options: tuple[Option, ...] = ()) -> Explain:
    """What explains the rest, a model's query, as of a model that is called `query`."""
    whole = cursor.whole
    made = CreateModel(whole, "query", whole, False, options, cursor.body("the model's query"))
    return Explain(whole, analyze, None, None, made)


def _drop(cursor: Cursor, kind: str) -> Drop:
    if_exists = cursor.take("IF", "EXISTS")
    # only models have versions
    name, span = cursor.reference("model") if kind == "MODEL" else cursor.name(kind.lower())
    cursor.end(f"DROP {kind} takes one name")
    return Drop(cursor.whole, kind.lower(), name, span, if_exists)


def _export(cursor: Cursor) -> ExportModel:
    name, span = cursor.reference("model")
    folder = _folder(cursor, "TO")
    cursor.end("EXPORT MODEL takes one model and one folder")
    return ExportModel(cursor.whole, name, span, folder)


def _import(cursor: Cursor, replace: bool) -> ImportModel:
    name, span = cursor.name("model")
    folder = _folder(cursor, "FROM")
    cursor.end("IMPORT MODEL takes one name and one folder")
    return ImportModel(cursor.whole, name, span, replace, folder)


def _folder(cursor: Cursor, before: str) -> Literal:
    """The folder that stands behind a keyword, in quotes."""
    if not cursor.take(before):
        raise cursor.error(f"expected {before} and a folder in quotes", cursor.hint((before,)))
    token = cursor.next
    if token is None or token.token_type not in STRINGS or not token.text.strip():
        raise cursor.error("expected a folder in quotes, such as 'models/churn'")
    return cursor.literal("the folder")


def _versions(cursor: Cursor) -> Show:
    if cursor.next is None:
        return Show(cursor.whole, "versions")
    if not cursor.take("OF"):
        raise cursor.error("expected OF and a model's name", cursor.hint(("OF",)))
    name, span = cursor.name("model")
    cursor.end("SHOW VERSIONS OF takes one name")
    return Show(cursor.whole, "versions", name, span)


def _alter(cursor: Cursor) -> Statement | None:
    """What is declared of a table; None for what is DuckDB's."""
    if not cursor.is_table():
        return None
    table = cursor.table()
    whole = cursor.whole
    if cursor.at("SET", "("):
        if not _sets_facts(cursor.tokens[cursor.index + 1 :], cursor.lexed):
            return None
        check_brackets(cursor.lexed, cursor.tokens)
        cursor.take("SET")
        options = _option_list(cursor, "SET")
        for option in options:
            if option.name.upper() not in _FACTS:
                raise QueryError(f"SET takes key and time, not `{option.name}`", option.name_span)
        cursor.end("ALTER TABLE … SET (…) takes nothing more")
        return SetFacts(whole, table, options)
    for word_, what in (("ADD", "REFERENCES"), ("DROP", "")):
        # the tokenizer takes FOREIGN KEY, with the blanks between, for one word
        key = cursor.tokens[cursor.index + 1 : cursor.index + 2]
        if not cursor.at(word_) or [word(t).split() for t in key] != [["FOREIGN", "KEY"]]:
            continue
        cursor.take(word_, word(key[0]))
        check_brackets(cursor.lexed, cursor.tokens)
        column = cursor.column_in_brackets("foreign key")
        if not what:
            cursor.end("DROP FOREIGN KEY takes one column")
            return DropForeignKey(whole, table, column)
        if not cursor.take(what):
            raise cursor.error("expected REFERENCES and a table", cursor.hint((what,)))
        if not cursor.is_table():
            raise cursor.error("expected the table that the foreign key refers to")
        references = cursor.table()
        to = cursor.column_in_brackets("key") if cursor.at("(") else None
        cursor.end("the statement should end here")
        return AddForeignKey(whole, table, column, references, to)
    return None


def _sets_facts(tokens: Sequence[Token], lexed: Lexed) -> bool:
    """Whether options are ours; raises QueryError where one is nearly so and none is."""
    names = [
        token
        for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False)
        if before.text in ("(", ",") and after.text in ("=", "=>", ")")
    ]
    if any(t.text.upper() in _FACTS for t in names):
        return True
    for token in names:
        text = token.text.upper()
        if meant := _NEARLY_FACTS.get(text, "") or nearest(text, _FACTS, ()):
            raise QueryError(
                f"there is no option `{token.text}`. Did you mean `{meant.lower()}`?",
                lexed.span(token),
            )
    return False


def _as(cursor: Cursor, wanted: str) -> None:
    if not cursor.take("AS"):
        raise cursor.error(f"expected {wanted}", cursor.hint(("OPTIONS", "AS")))


def _options(cursor: Cursor) -> tuple[Option, ...]:
    if not cursor.at("OPTIONS"):
        return ()
    cursor.take("OPTIONS")
    return _option_list(cursor, "OPTIONS")


def _option_list(cursor: Cursor, head: str) -> tuple[Option, ...]:
    options: dict[str, Option] = {}
    cursor.symbol("(", f"`(` after {head}")
    while not cursor.at(")"):
        token = cursor.word_like("an option's name")
        name, span = token.text.lower(), cursor.lexed.span(token)
        if name in options:
            raise QueryError(f"option `{name}` is given twice", span)
        if cursor.at("=>"):
            raise cursor.error("an option is written with `=`; `=>` is for function arguments")
        cursor.symbol("=", f"`=` and a value after option `{name}`")
        value = cursor.literal(f"option `{name}`")
        options[name] = Option(name, value.value, span, value.span)
        if not cursor.take(","):
            break
    cursor.symbol(")", "`,` or `)` after an option")
    return tuple(options.values())


def _layer_arguments(cursor: Cursor) -> tuple[LayerArgument, ...]:
    arguments: dict[str, LayerArgument] = {}
    cursor.symbol("(", "`(` and the layer's arguments, as in `name(nodes, edges, n = 64)`")
    while not cursor.at(")"):
        name, span = cursor.name("layer argument")
        if name.lower() in arguments:
            raise QueryError(f"argument `{name}` is there twice", span)
        default, columns = None, _relation_columns(cursor, name) if cursor.at("(") else None
        if cursor.at("=>"):
            raise cursor.error("a default is written with `=`; `=>` is for calling the layer")
        if columns is None and cursor.take("="):
            default = cursor.literal(f"argument `{name}`")
        elif any(a.default for a in arguments.values()):
            raise QueryError(f"`{name}` needs a default, as an argument before it has one", span)
        arguments[name.lower()] = LayerArgument(name, span, default, columns)
        if not cursor.take(","):
            break
    cursor.symbol(")", "`,` or `)` after an argument")
    return tuple(arguments.values())


def _relation_columns(cursor: Cursor, relation: str) -> tuple[str, ...]:
    """The columns a layer's relation must have."""
    columns: dict[str, str] = {}
    cursor.symbol("(", "`(`")
    while not cursor.at(")"):
        name, span = cursor.name("column")
        if name.lower() in columns:
            raise QueryError(f"column `{name}` of `{relation}` is there twice", span)
        columns[name.lower()] = name
        if not cursor.take(","):
            break
    cursor.symbol(")", "`,` or `)` after a column")
    return tuple(columns.values())


def _refuse_near_misses(lexed: Lexed, tokens: Sequence[Token]) -> None:
    """Raise QueryError for a head that is nearly one of ours and cannot be one of DuckDB's."""
    head, *words = [word(t) for t in tokens[:6]]
    at = 3 if words[:2] == ["OR", "REPLACE"] else 1
    kind, following = [*words[at - 1 :], "", ""][:2]
    if head == "CREATE":
        if kind in ("TEMP", "TEMPORARY") and following in _KINDS:
            raise QueryError(f"a {following.lower()} cannot be temporary", lexed.span(tokens[at]))
        if meant := nearest(kind, _KINDS, _DUCKDB_KINDS):
            raise QueryError(
                f"nothing is created by CREATE {kind}. Did you mean `{meant}`?",
                lexed.span(tokens[at]),
            )
    elif head in ("EXPORT", "IMPORT"):
        meant = "MODEL" if kind in _KINDS else nearest(kind, ("MODEL",), ("DATABASE",))
        if meant:
            raise QueryError(
                f"{head} is for a model or DuckDB's whole DATABASE. Did you mean `{meant}`?",
                lexed.span(tokens[at]),
            )
    elif head == "EXPLAIN" and "CREATE" in words[:2] and "MODEL" in words:
        raise QueryError(
            "a model is explained by EXPLAIN MODEL name or EXPLAIN MODEL [OPTIONS (…)] AS SELECT …",
            lexed.span(tokens[0], tokens[words.index("MODEL") + 1]),
        )
    else:
        complete = len(tokens) > at + 1 if kind in _KINDS else len(tokens) == 2
        if (
            kind in (*_KINDS, *_PLURALS)
            and complete
            and (meant := nearest(head, _HEADS, _DUCKDB_HEADS))
        ):
            raise QueryError(
                f"no statement begins like this. Did you mean `{meant}`?", lexed.span(tokens[0])
            )
