"""Features of the shop computed row by row in Python."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import mean, stdev
from typing import Any

import duckdb

Row = dict[str, Any]
Features = dict[str, Any]

WINDOWS = {
    "5d": lambda a: a - timedelta(days=5),
    "2w": lambda a: a - timedelta(weeks=2),
    "1mo": lambda a: a.replace(year=a.year - (a.month == 1), month=(a.month - 2) % 12 + 1),
}
LAST = (1, 3)
DECAY = 7.0


@dataclass(frozen=True)
class Cut:
    """The shop's tables as known at a time."""

    anchor: datetime
    tables: dict[str, list[Row]]

    @classmethod
    def of(cls, con: duckdb.DuckDBPyConnection, anchor: datetime) -> Cut:
        tables = {}
        times = {"event": "at", "orders": "ts", "review": "t", "product": None, "customer": None}
        for table, time in times.items():
            found = con.execute(f"SELECT * FROM {table}")
            names = [d[0] for d in found.description or []]
            rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
            if time is not None:
                rows = [r for r in rows if r[time] is not None and r[time] <= anchor]
            tables[table] = rows
        return cls(anchor, tables)

    def one(self, table: str, key: str, value: Any) -> Row | None:
        found = [r for r in self.tables[table] if value is not None and r[key] == value]
        return found[0] if found else None


def order_values(cut: Cut, order: Row) -> Row:
    """What is derived for one order."""
    product = cut.one("product", "pid", order["pid"]) or {"brand": None, "price": None}
    event = cut.one("event", "eid", order["eid"]) or {"size": None}
    same = [
        o for o in cut.tables["orders"] if order["eid"] is not None and o["eid"] == order["eid"]
    ]
    known = [o["amount"] for o in same if o["amount"] is not None]
    mine = order["amount"]
    rank = diff = None
    if mine is not None and order["eid"] is not None:
        rank = sum(v < mine for v in known) / (len(known) - 1) if len(known) > 1 else 0.0
        diff = mine - mean(known)
    stars = [r["stars"] for r in cut.tables["review"] if r["oid"] == order["oid"]]
    return {
        "product_brand": product["brand"],
        "product_price": product["price"],
        "event_size": event["size"],
        "amount_rank": rank,
        "amount_diff": diff,
        "review_count": len(stars),
        "review_sum_stars": sum(stars) if stars else None,
        "review_avg_stars": mean(stars) if stars else None,
        "review_max_stars": max(stars) if stars else None,
    }


_AGGREGATES = {
    "sum": sum,
    "avg": mean,
    "min": min,
    "max": max,
    "stddev": lambda x: stdev(x) if len(x) > 1 else None,
}


def history(cut: Cut, orders: Sequence[Row], name: str, full: bool, is_: Row) -> Features:
    """The features of a key with these orders; `is_` are the counted values of each category."""
    anchor = cut.anchor
    latest = sorted(orders, key=lambda o: (o["ts"], o["oid"]), reverse=True)
    age = {o["oid"]: (anchor - o["ts"]).total_seconds() / 86400 for o in orders}
    weight = {o: math.exp(-a / DECAY) for o, a in age.items()}
    ages = list(age.values())
    spans = {
        f"_{w}": [o for o in latest if o["ts"] > start(anchor)] for w, start in WINDOWS.items()
    }
    spans[""] = latest
    few = {f"_last{k}": latest[:k] for k in LAST if k > 1}
    out: Features = {f"{name}_count{w}": len(rows) for w, rows in spans.items()}
    out[f"{name}_count_decay1w"] = sum(weight.values()) if orders else None
    out[f"{name}_days_since_last"] = min(ages, default=None)
    out[f"{name}_days_since_first"] = max(ages, default=None)
    out[f"{name}_days_between"] = (max(ages) - min(ages)) / (len(ages) - 1) if ages[1:] else None

    values: list[tuple[str, bool]] = [("amount", False)]
    if full:
        values += [(v, True) for v in order_values(cut, cut.tables["orders"][0])]
    derived = {o["oid"]: order_values(cut, o) for o in orders} if full else {}

    def read(order: Row, value: str) -> Any:
        return order[value] if value in order else derived[order["oid"]][value]

    for value, of_others in values:
        if value == "product_brand":
            continue
        story = full and not of_others
        for w, rows in {**spans, **few}.items():
            xs = [read(o, value) for o in rows if read(o, value) is not None]
            for how, call in _AGGREGATES.items():
                if (story and not (how == "sum" and w in few)) or (not story and how == "avg"):
                    out[f"{name}_{how}_{value}{w}"] = call(xs) if xs else None
            if story:
                pairs = [(-age[o["oid"]], read(o, value)) for o in rows]
                out[f"{name}_trend_{value}{w}"] = slope([p for p in pairs if p[1] is not None])
        known = [o for o in orders if read(o, value) is not None]
        total = sum(weight[o["oid"]] for o in known)
        weighted = sum(weight[o["oid"]] * read(o, value) for o in known)
        out[f"{name}_avg_{value}_decay1w"] = weighted / total if known else None
        out[f"{name}_last_{value}"] = read(latest[0], value) if latest else None
        if story:
            out[f"{name}_first_{value}"] = read(latest[-1], value) if latest else None
    for value in ["status", *(["product_brand"] if full else [])]:
        xs = [read(o, value) for o in orders if read(o, value) is not None]
        counts = Counter(xs)
        out[f"{name}_mode_{value}"] = min(counts, key=lambda x: (-counts[x], x)) if xs else None
        out[f"{name}_count_distinct_{value}"] = len(counts)
        out[f"{name}_last_{value}"] = read(latest[0], value) if latest else None
        if value == "status":
            for w, rows in {**spans, **(few if full else {})}.items():
                for one in is_["status"]:
                    found = sum(read(o, value) == one for o in rows)
                    out[f"{name}_status_is_{one}{w}"] = found
            if full:
                out[f"{name}_first_status"] = read(latest[-1], value) if latest else None
    return out


def slope(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Of the line of least squares, None where x does not vary."""
    if len({x for x, _ in pairs}) < 2:
        return None
    mx, my = mean(x for x, _ in pairs), mean(y for _, y in pairs)
    return sum((x - mx) * (y - my) for x, y in pairs) / sum((x - mx) ** 2 for x, _ in pairs)


def features(con: duckdb.DuckDBPyConnection, customer: int, anchor: datetime, is_: Row) -> Features:
    """All features of a customer."""
    cut = Cut.of(con, anchor)
    found = cut.one("customer", "id", customer)
    mine = [o for o in cut.tables["orders"] if o["cid"] == customer]
    out: Features = {"cid": customer, "tm": anchor}
    born = None if found is None else datetime.combine(found["born"], datetime.min.time())
    out["country"] = None if found is None else found["country"]
    out["born_age"] = None if born is None else (anchor - born).total_seconds() / 86400
    out |= history(cut, mine, "orders", True, is_)
    named = sorted((o for o in mine if o["pid"] is not None), key=lambda o: (o["ts"], o["oid"]))
    product = named[-1]["pid"] if named else None
    others = [o for o in cut.tables["orders"] if product is not None and o["pid"] == product]
    last = history(cut, others, "latest_product_orders", False, is_)
    out |= last if product is not None else dict.fromkeys(last)
    if found is None:
        out |= {n: None for n in out if n not in ("cid", "tm")}
    return out
