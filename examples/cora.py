"""The GCN of cora.sql, ten seeds: `python examples/cora.py FOLDER`.

FOLDER holds Cora as Parquet: nodes (id, label, split), edges (src, dst), features (row, col, val).
Published: 81.5 % on the standard split (Kipf and Welling 2017).
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import relann

QUERY = (Path(__file__).parent / "cora.sql").read_text()


def load(con: relann.Session, folder: Path) -> None:
    """The three tables the query reads."""
    for table, file in {"node": "nodes", "edge": "edges", "feature": "features"}.items():
        con.sql(f"CREATE TABLE {table} AS SELECT * FROM '{folder / file}.parquet'")


def accuracy(folder: Path, seed: int) -> float:
    """Test accuracy of the model trained from a seed; the best epoch is picked on validation."""
    with relann.connect() as con:
        load(con, folder)
        rows = con.sql(QUERY.replace("seed = 0", f"seed = {seed}")).fetchall()
        return dict(rows)["accuracy"]


def main() -> None:
    """Ten seeds, one line each, and their mean."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    found = []
    for seed in range(10):
        began = time.perf_counter()
        found.append(accuracy(Path(sys.argv[1]), seed))
        print(f"seed {seed}  accuracy {found[-1]:.3f}  {time.perf_counter() - began:.1f} s")
    spread = statistics.stdev(found)
    print(f"mean {statistics.mean(found):.4f} ± {spread:.4f} (standard deviation), published 0.815")


if __name__ == "__main__":
    main()
