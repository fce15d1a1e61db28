"""Which engine runs: by its name, or the first that can."""

from __future__ import annotations

import importlib
from types import ModuleType

import duckdb

from relann.algebra.engines.protocol import Engine
from relann.errors import EngineError, did_you_mean, listing

ENGINES = ("cudf", "duckdb", "pandas")
"""Each is the module of its name, with `make` and `missing`. `auto` takes the first that runs."""

CHOICES = ("auto", *ENGINES)
DEFAULT = "duckdb"


def module_of(name: str) -> ModuleType:
    """The module of an engine; EngineError for a name there is none of."""
    if name not in ENGINES:
        raise EngineError(
            f"no engine is called {name!r}; there are {listing(CHOICES)}."
            + did_you_mean(name, CHOICES)
        )
    return importlib.import_module(f"relann.algebra.engines.{name}")


def missing(name: str) -> str | None:
    """What an engine lacks before it runs; None if nothing."""
    found: str | None = module_of(name).missing()
    return found


def chosen(name: str) -> str:
    """The engine that a choice means on this machine."""
    if name == "auto":
        return next(engine for engine in ENGINES if missing(engine) is None)
    module_of(name)
    return name


def engine_for(name: str, connection: duckdb.DuckDBPyConnection) -> Engine:
    """The engine of a choice on a connection.

    EngineError for an unknown name, and where a piece that the engine needs is missing.
    """
    made: Engine = module_of(chosen(name)).make(connection)
    return made
