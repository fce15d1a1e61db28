"""relann: neural networks over databases, written as SQL queries."""

import os

# Torch reads it once, when it makes its first tensor: large tensors on huge pages. Every step of an
# epoch writes fresh memory, and the small pages of it are what large models wait for.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import relann.datasets as datasets
from relann.errors import (
    DataError,
    EngineError,
    PlanError,
    QueryError,
    RelannError,
    SchemaError,
)
from relann.estimator import Model
from relann.results import Result
from relann.session import Session, connect
from relann.version import VERSION as __version__

__all__ = [
    "DataError",
    "EngineError",
    "Model",
    "PlanError",
    "QueryError",
    "RelannError",
    "Result",
    "SchemaError",
    "Session",
    "__version__",
    "connect",
    "datasets",
]
