"""Published networks as layers: `relann.gcn`, `relann.sage`, …, each a few lines of SQL in a file.

`patterns` writes those that follow a scheme: `relann.cycle_5`, `relann.path_3`, `relann.star_4`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from relann.algebra.parse import statements
from relann.algebra.statements import CreateLayer
from relann.errors import SchemaError, did_you_mean, listing
from relann.models.library import patterns

PREFIX = "relann."
"""What names of library layers begin with."""

FOLDER = Path(__file__).parent


@cache
def definitions() -> dict[str, str]:
    """The statement that creates each layer kept in a file, by name without the prefix."""
    found: dict[str, str] = {}
    for file in sorted(FOLDER.glob("*.sql")):
        for statement in statements(file.read_text(encoding="utf-8")):
            if not isinstance(statement, CreateLayer) or statement.name in found:
                raise SchemaError(f"{file.name} holds layers, each of its own name")
            found[statement.name] = statement.sql
    return found


def names() -> list[str]:
    """All layers kept in files and some of the patterns, with the prefix."""
    return [PREFIX + name for name in (*definitions(), *patterns.EXAMPLES)]


def definition(name: str) -> str:
    """The statement that creates a layer, named with the prefix, in any case.

    Raises SchemaError where there is no such layer, naming the nearest.
    """
    bare = name.lower().removeprefix(PREFIX)
    if bare in definitions():
        return definitions()[bare]
    if (written := patterns.definition(bare)) is not None:
        return written
    known = [*definitions(), *patterns.EXAMPLES]
    hint = did_you_mean(bare, known).replace("`", f"`{PREFIX}", 1)
    hint = hint or f" There are {listing(names(), 40)}."
    raise SchemaError(f"there is no layer `{PREFIX}{bare}`.{hint}")
