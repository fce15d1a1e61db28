"""The dialects there are, by what `dialect =>` calls them."""

from __future__ import annotations

from relann.dialects.postgres import POSTGRES
from relann.dialects.spark import SPARK
from relann.dialects.translate import Dialect
from relann.errors import QueryError, did_you_mean

DIALECTS: dict[str, Dialect] = {d.name: d for d in (POSTGRES, SPARK)}


def dialect_of(name: object) -> Dialect:
    """The dialect of a name. Raises QueryError for another."""
    found = DIALECTS.get(name.lower()) if isinstance(name, str) else None
    if found is None:
        known = " or ".join(f"'{d}'" for d in DIALECTS)
        raise QueryError(f"`dialect` is {known}." + did_you_mean(str(name), DIALECTS))
    return found
