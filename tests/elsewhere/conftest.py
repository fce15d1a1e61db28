"""Each other database, started once for all of its tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.elsewhere import engines


@pytest.fixture(scope="session", params=["postgres", "spark"])
def elsewhere(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[engines.Elsewhere]:
    """PostgreSQL, then Spark."""
    start = getattr(engines, request.param)
    with start(tmp_path_factory.mktemp(request.param)) as engine:
        yield engine
