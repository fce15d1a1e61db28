"""How good a ranking is: the items of each seed by score, against those that are right."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

METRICS = ("map", "precision", "recall", "hits")


def seed_of(rows: pa.Table, names: Sequence[str]) -> pa.Array:
    """One value for the columns that say which seed a row belongs to."""
    parts = [rows.column(name).cast(pa.string()) for name in names]
    return pc.binary_join_element_wise(*parts, "\x1f")


def ranking_metrics(pairs: pa.Table, rights: pa.Table, top_k: int | None) -> dict[str, float]:
    """Means over the seeds with anything right, of their first `top_k` items (None: all).

    `pairs` has the columns seed, score and right (boolean), one row for each candidate; `rights`
    the columns seed and count, one row for each seed: how many items are right, candidates or not.
    Equal scores are in the order of the rows.

    map        average precision: the mean over right items of the share of right ones up to them,
               divided by what `top_k` allows at most
    precision  share of right items among `top_k`; recall among all that are right
    hits       share of seeds with a right item
    """
    asked = rights.to_pandas().set_index("seed")["count"]
    asked = asked[asked > 0]
    if asked.empty:
        return dict.fromkeys(METRICS, float("nan"))
    rows = pairs.to_pandas().sort_values("score", ascending=False, kind="stable")
    rows["place"] = rows.groupby("seed").cumcount() + 1
    if top_k is not None:
        rows = rows[rows["place"] <= top_k]
    rows = rows[rows["seed"].isin(asked.index)]
    rows["found"] = rows.groupby("seed")["right"].cumsum()
    hits = rows[rows["right"]]
    gained = (hits["found"] / hits["place"]).groupby(hits["seed"]).sum()
    found = hits.groupby("seed").size().reindex(asked.index, fill_value=0)
    most = asked if top_k is None else asked.clip(upper=top_k)
    shown = rows.groupby("seed").size().reindex(asked.index, fill_value=0)
    length = pd.Series(top_k, index=asked.index) if top_k is not None else shown.clip(lower=1)
    return {
        "map": float((gained.reindex(asked.index, fill_value=0.0) / most).mean()),
        "precision": float((found / length).mean()),
        "recall": float((found / asked).mean()),
        "hits": float((found > 0).mean()),
    }
