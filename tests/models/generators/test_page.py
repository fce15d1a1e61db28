"""The page on generators: its example runs and gives the query it quotes."""

from __future__ import annotations

from typing import Any

from tests.models.generators import shop
from tests.test_docs import DOCS, blocks

PAGE = DOCS / "generators.md"


def test_example() -> None:
    (example,), (quoted,) = blocks(PAGE, "python"), blocks(PAGE, "sql no-run")
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["network"] == quoted
    for text in (names["network"], names["features"]):
        assert not shop.opaque(shop.timed(names["con"], text))
    for name in ("orders_avg_amount_90d", "orders_avg_amount_last3", "orders_avg_amount_decay1y"):
        assert name in names["features"]
