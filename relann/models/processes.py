"""A team of several processes, by torch.distributed: gloo between processors, NCCL between GPUs.

Processes come together at every step. What each brings is preceded by a message of fixed size that
says whether it has failed, so that the failure of one ends them all, wherever the others wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from relann.errors import DataError, EngineError, listing
from relann.models.team import T, Team

# As long as the leader may take for a statement that the others wait for.
PATIENCE = timedelta(hours=12)
_GIVEN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class LostError(EngineError):
    """Another process has ended without a word."""


class Processes(Team):
    """All processes that one launcher has started.

    here  how many of them are on this machine
    """

    def __init__(self, rank: int, size: int, here: int) -> None:
        self.rank = rank
        self.size = size
        self.here = here
        self._ended = False
        self._parted = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that succeeds in all processes or in none: then all raise the same error."""
        try:
            yield
            self._meet()
            self._ended = self._parted = True
        except Exception as error:
            if not self._ended:
                self._meet(failure=error)
            raise

    def wait(self) -> None:
        """Go on when all others have come this far."""
        self._meet()

    # -- what a training asks ----------------------------------------------------------------------

    def use(self, device: torch.device) -> None:
        """See `Team.use`: each process needs a GPU of its own."""
        if device.type == "cuda" and self.here > torch.cuda.device_count():
            raise EngineError(
                f"{self.here} processes on this machine train on GPUs, and it has "
                f"{torch.cuda.device_count()}: start one process for each"
            )

    def agree(self, what: str, digest: Callable[[], bytes]) -> None:
        """See `Team.agree`."""
        found = self._everybodys(digest())
        if others := [str(rank) for rank, one in enumerate(found) if one != found[0]]:
            raise DataError(
                f"process {listing(others)} and process 0 differ in {what}: every process has to "
                "read the same database with the same versions of relann and its libraries"
            )

    def combine(
        self, learned: Sequence[Tensor], loss: float, count: int, device: torch.device
    ) -> tuple[float, int]:
        """See `Team.combine`: gradients are averaged, each weighted by its rows.

        Each is bit for bit the same in all processes. One that no process has stays None.
        """
        # which gradients there are goes along, as a step without one is not a step with zeros
        there = torch.tensor([p.grad is not None for p in learned], dtype=torch.float32)
        flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
        sent = torch.cat([*(g.flatten() * count for g in flat), there.to(device)])
        # no step from here to the sum may fail in one process only: the others wait for it
        total, counts = self._meet(loss * count, count)
        whole = sum(counts)
        with _reaching():
            dist.all_reduce(sent)
        *found, met = torch.split(sent, [*(p.numel() for p in learned), len(learned)])
        for parameter, gradient, known in zip(learned, found, met.tolist(), strict=True):
            mean = (gradient / whole).view_as(parameter).to(parameter.dtype)
            parameter.grad = mean if known else None
        return total / whole, whole

    def gathered(self, values: Tensor) -> Tensor:
        """See `Team.gathered`."""
        _, counts = self._meet(0.0, len(values))
        padded = values.new_zeros((max(counts), *values.shape[1:]))
        padded[: len(values)] = values
        found = [torch.empty_like(padded) for _ in counts]
        with _reaching():
            dist.all_gather(found, padded)
        return torch.cat([one[:count] for one, count in zip(found, counts, strict=True)])

    def leading(self, value: T) -> T:
        """See `Team.leading`."""
        self._meet()
        held = [value]
        with _reaching():
            dist.broadcast_object_list(held, device=torch.device("cpu"))
        return held[0]

    # -- how they meet -----------------------------------------------------------------------------

    def _meet(
        self, number: float = 0.0, count: int = 0, failure: Exception | None = None
    ) -> tuple[float, list[int]]:
        """The sum of everybody's numbers, and everybody's counts; raises what another has raised.

        The one that brings a failure raises nothing.
        """
        message = torch.zeros(2 + self.size, dtype=torch.float64)
        message[0] = failure is not None
        message[1] = number
        message[2 + self.rank] = count
        try:
            with _reaching():
                dist.all_reduce(message)
        except LostError:
            self._ended = True
            if failure is None:
                raise
            return 0.0, []
        failed, total, *counts = message.tolist()
        if failed:
            self._ended = True
            told = self._everybodys(None if failure is None else _told(failure))
            self._parted = True
            if failure is None:
                rank, text = next((r, t) for r, t in enumerate(told) if t is not None)
                raise EngineError(f"process {rank} has failed: {text}")
        return total, [int(c) for c in counts]

    def _everybodys(self, value: T) -> list[T]:
        if not self._ended:
            self._meet()
        found: list[T] = [value] * self.size
        with _reaching():
            dist.all_gather_object(found, value)
        return found

    def leave(self) -> None:
        """Wait until all are about to leave, if they have ended together.

        A launcher ends all processes as soon as one has failed, even while another tells why.
        """
        if self._parted:
            with suppress(LostError), _reaching():
                dist.all_reduce(torch.zeros(1))


def _told(error: Exception) -> str:
    text = str(error)
    return text if isinstance(error, EngineError) else f"{type(error).__name__}: {text}"


@contextmanager
def _reaching() -> Iterator[None]:
    """LostError where a process is not there any more."""
    try:
        yield
    except RuntimeError as error:
        raise LostError(
            "another process has ended without saying why: look at its output, and whether it ran "
            f"out of memory ({str(error).splitlines()[0]})"
        ) from error


@contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[Processes]:
    """The team of all processes of a launcher, which says by environment variables who they are.

    EngineError where there is no launcher.
    """
    if missing := [name for name in _GIVEN if name not in environment]:
        raise EngineError(
            f"a launcher starts the processes, and this one has none ({listing(missing)} not set): "
            "torchrun --nproc-per-node 2 -m relann train FILE --db DATABASE. One process trains by "
            "relann run"
        )
    rank, size, local, here = (int(environment[name]) for name in _GIVEN[:4])
    backend = "gloo"
    if torch.cuda.is_available() and local < torch.cuda.device_count():
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"the processes cannot reach each other: {error}") from error
    team = Processes(rank, size, here)
    try:
        yield team
    finally:
        team.leave()
        dist.destroy_process_group()
