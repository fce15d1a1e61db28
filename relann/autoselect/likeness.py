"""How alike the two classes of labelled pairs are, in SQL."""

from __future__ import annotations

CLASS_PARTS = (
    ("counts", "SELECT y, z, count(*) AS n FROM labelled GROUP BY ALL"),
    ("classes", "SELECT y AS c, count(*) / sum(count(*)) OVER () AS share FROM seed GROUP BY y"),
    (
        "sums",
        "SELECT c, share, coalesce(sum(n) FILTER (y = c), 0) AS own, "
        "coalesce(sum(n) FILTER (z = c), 0) AS other, "
        "coalesce(sum(n) FILTER (y = c AND z = c), 0) AS same "
        "FROM classes LEFT JOIN counts ON y = c OR z = c GROUP BY c, share",
    ),
    (
        "whole",
        "SELECT sum(own) AS pairs, sum(same) / sum(own) AS equal, "
        "sum(((own + other) / 2) ** 2) / sum(own) ** 2 AS chance FROM sums",
    ),
)
"""What CLASS_MEASURES reads, of `labelled` (y, z), a row for each pair, and `seed` (…, y, …).

`sums` has for each class its share of the seeds, how many pairs have it on the own and on the other
side, and how many on both.
"""

CLASS_MEASURES = """SELECT
  CASE WHEN any_value(pairs) > 0 AND count(*) > 1 THEN
    sum(CASE WHEN own > 0 THEN greatest(same / own - share, 0) ELSE 0 END) / (count(*) - 1)
  END AS class_insensitive_homophily,
  CASE WHEN any_value(chance) < 1 THEN
    (any_value(equal) - any_value(chance)) / (1 - any_value(chance))
  END AS adjusted_homophily,
  any_value(pairs)::BIGINT AS pairs
FROM sums, whole"""
"""One row: both measures, NULL without pairs or with one class only, and the number of pairs.

Class-insensitive homophily (Lim et al. 2021) is the mean over classes but one of how much more
often a class meets itself than its share of the seeds, at least 0; a class without pairs adds 0.
Adjusted homophily (Platonov et al. 2023) is the share of equal pairs beyond what is expected of the
ends' classes, each pair an edge with two ends.
"""
