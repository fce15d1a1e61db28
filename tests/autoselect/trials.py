"""Trials made up for tests, and a small shop to search on."""

from __future__ import annotations

import json
from typing import Any

from relann.autoselect.space import Point
from relann.autoselect.trials import Trial

SHOP = """
CREATE TABLE customers (customer_id INTEGER PRIMARY KEY, country VARCHAR);
CREATE TABLE orders (order_id INTEGER PRIMARY KEY,
    customer_id INTEGER REFERENCES customers (customer_id), ordered_at TIMESTAMP, total DOUBLE);
INSERT INTO customers SELECT i, ['DE', 'FR', 'IT'][1 + i % 3] FROM range(20) t(i);
INSERT INTO orders SELECT i, (i * i + i // 40) * (1 + i % 3) % 20,
    TIMESTAMP '2022-01-01' + i * INTERVAL 26 HOUR, i % 17 FROM range(500) t(i);
CREATE TASK churn OPTIONS (val = '2023-01-01', test = '2023-04-01') AS
PREDICT COUNT(orders.*, 0, 30, days) = 0 FOR EACH customers.customer_id
"""


def trial(of: Point | None = None, **given: Any) -> Trial:
    """A trial with these values, of a point if there is one."""
    own: dict[str, Any] = {
        "database": "d", "task": "t", "kind": "binary", "metric": "auroc", "regime": "rolling",
        "family": "features", "template": "dfs", "point": "p", "knobs": "{}", "program": "",
        "seed": 0,
    }  # fmt: skip
    if of is not None:
        own |= {"family": of.family, "template": of.template, "point": of.hash,
                "knobs": json.dumps(dict(of.knobs))}  # fmt: skip
    return Trial(**{**own, **given})
