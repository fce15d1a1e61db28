"""Where tensors live and in which precision products run: choices, checks, errors of memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from relann.errors import EngineError, QueryError, Span, did_you_mean, listing

CPU = torch.device("cpu")
CHOICES = ("auto", "cpu", "cuda")
_LACKS = "does not have a deterministic implementation"
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # without it CUDA's products are not deterministic


def missing(choice: str) -> str | None:
    """Why a device cannot be used here, and what to do; None if it can."""
    if choice != "cuda" or torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        return "this torch is built without CUDA; install one that is, see pytorch.org/get-started"
    return "CUDA finds no GPU; look at nvidia-smi and the driver"


def chosen(choice: str, span: Span | None = None) -> torch.device:
    """The device of a choice: `auto` is a GPU where there is one.

    EngineError for an unknown name, and for a GPU that is not there; QueryError where an option at
    `span` asks for one.
    """
    if choice not in CHOICES:
        raise EngineError(
            f"no device is called {choice!r}; there are {listing(CHOICES)}."
            + did_you_mean(choice, CHOICES)
        )
    if choice == "auto":
        return torch.device("cuda" if missing("cuda") is None else "cpu")
    if (found := missing(choice)) is not None:
        told = f"the device {choice} cannot be used: {found}"
        raise EngineError(told) if span is None else QueryError(told, span)
    return torch.device(choice)


def mixed(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Products in `bfloat16`, weights and sums in float32; `float32`: everything."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def deterministic(device: torch.device, wanted: bool) -> Iterator[None]:
    """The same bits each time on a GPU, where torch can; EngineError where it cannot.

    The CPU's operations are deterministic anyway.
    """
    if not wanted or device.type == "cpu":
        yield
        return
    before, warned = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if _LACKS not in str(error):
            raise
        what = str(error).partition(_LACKS)[0].strip()
        raise EngineError(
            f"`deterministic` cannot be kept on {device.type}: {what} is not. Train on the cpu, or "
            "without it"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


@contextmanager
def memory(device: torch.device, what: str, remedy: str) -> Iterator[None]:
    """EngineError, with what to do, where a device's memory does not suffice for `what`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"{what} takes more memory than the {device.type} has. {remedy}"
        ) from error


def synchronise(device: torch.device) -> None:
    """Wait until what was started on a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
