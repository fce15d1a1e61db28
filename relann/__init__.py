"""relann: neural networks over databases, written as SQL queries."""

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
