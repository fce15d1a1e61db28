"""What every test shares: real data, how hypothesis draws, how many threads torch takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores
    torch.set_num_threads(1)

# `ci` draws the same examples every time. `explore` draws new ones, and more of them.
# Pick with the environment's HYPOTHESIS_PROFILE or with --hypothesis-profile.
_SLOW_IS_FINE = [HealthCheck.too_slow]
settings.register_profile(
    "ci", derandomize=True, deadline=None, suppress_health_check=_SLOW_IS_FINE
)
settings.register_profile(
    "explore", max_examples=1000, deadline=None, suppress_health_check=_SLOW_IS_FINE
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread, for modules whose networks are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data("planetoid/cora")` is that part of the real data; the test skips without it.

    The data is the folder RELANN_TEST_DATA names, by default `../shared/data` of the project. A
    RELANN_TEST_DATA that names no folder is a mistake, so it fails the test.
    """
    named = os.environ.get("RELANN_TEST_DATA")
    folder = Path(named) if named else _BESIDE
    if named and not folder.is_dir():
        pytest.fail(f"RELANN_TEST_DATA names {named}, which is no folder", pytrace=False)

    def find(name: str) -> Path:
        if not (folder / name).exists():
            pytest.skip(f"needs the real data {name}, not in {folder} (set RELANN_TEST_DATA)")
        return folder / name

    return find
