"""The epochs of a training: steps on the training rows, a look at the validation rows."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from relann.algebra.plan import Plan
from relann.algebra.terms import Term
from relann.errors import DataError, QueryError
from relann.models.batches import Labelled, Part
from relann.models.losses import Head
from relann.models.metrics import is_better, measure
from relann.models.options import Options
from relann.models.team import ALONE, Team
from relann.provenance.devices import mixed
from relann.provenance.module import Batch, QueryModule

log = logging.getLogger("relann")

CURVE = pa.schema(
    [
        ("epoch", pa.int32()),
        ("loss", pa.float64()),
        ("validation_loss", pa.float64()),
        ("metric", pa.string()),
        ("validation", pa.float64()),
        ("best", pa.bool_()),
        ("seconds", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Epoch:
    """One point of the learning curve; no validation rows, no validation.

    `loss` is the mean over the epoch's training steps, each seen before its update.
    """

    epoch: int
    loss: float
    validation_loss: float | None
    validation: float | None
    seconds: float

    def told(self, metric: str) -> str:
        """The epoch in a few words."""
        status = f"epoch {self.epoch}  loss {self.loss:.4f}"
        if self.validation is not None:
            status += f"  validation {metric} {self.validation:.4f}"
        return status


Watch = Callable[[Epoch], bool]
"""What is told each epoch, and says whether training ends there."""


def unwatched(epoch: Epoch) -> bool:
    """Never ends a training."""
    return False


def curve_table(curve: Sequence[Epoch], metric: str, best: int | None) -> pa.Table:
    """The learning curve as a table; see CURVE."""
    rows = [{**vars(e), "metric": metric, "best": e.epoch == best} for e in curve]
    return pa.Table.from_pylist(rows, schema=CURVE)


class Learning:
    """One training of a network, epoch by epoch.

    `best_state` are the weights of the epoch whose `metric` on the validation rows is best, less
    validation loss deciding between equal ones; without validation rows those of the last epoch,
    taken by `finish`. Each process of a `team` has its share of every training batch, and of the
    validation rows as a whole; all keep the same epoch.
    """

    def __init__(
        self,
        module: QueryModule,
        head: Head,
        options: Options,
        metric: str,
        train: Labelled,
        val: Labelled | None,
        team: Team = ALONE,
    ) -> None:
        self.module = module
        self.head = head
        self.options = options
        self.metric = metric
        self.train = train
        self.val = val
        self.team = team
        self.truths = None if val is None else team.gathered(val.targets)
        self.learned = [p for p in module.parameters() if p.numel()]
        if not self.learned:
            raise QueryError("the model has no parameters, so there is nothing to train")
        self.optimizer = _optimizer(_groups(module, options), options)
        self.source = np.random.default_rng(options.seed)
        self.best: Epoch | None = None
        self.best_state: dict[str, Tensor] = {}

    def epochs(self) -> Iterator[Epoch]:
        """Train, one epoch at each turn, until all are done or patience has run out."""
        for number in range(1, self.options.epochs + 1):
            began = time.perf_counter()
            loss = self.steps(number)
            of_val = self.team.leading(self._validate(number))
            epoch = Epoch(number, loss, *of_val, time.perf_counter() - began)
            self._keep(epoch)
            yield epoch
            assert self.best is not None
            waited = number - self.best.epoch
            if self.options.patience and waited >= self.options.patience:
                log.info("stopped after epoch %d: no better for %d epochs", number, waited)
                break

    def _keep(self, epoch: Epoch) -> None:
        """Remember the epoch if it is the best."""
        if self.val is None:
            self.best = epoch
        elif self.best is None or self._beats(epoch, self.best):
            self.best, self.best_state = epoch, self.module.state()

    def _beats(self, epoch: Epoch, best: Epoch) -> bool:
        if epoch.validation != best.validation:
            return is_better(self.metric, epoch.validation, best.validation)
        return is_better("loss", epoch.validation_loss, best.validation_loss)

    def steps(self, number: int) -> float:
        """The steps of an epoch, without a look at the validation rows; the mean training loss."""
        if not self.module.training:  # telling every part takes longer than a small model's step
            self.module.train()
        total = 0.0
        with closing(self.train.shuffled(self.source)) as parts:
            for part, targets in parts:
                total += self._step(number, part, targets)
        return total / self.train.count

    def _step(self, number: int, part: Part, targets: Tensor) -> float:
        """One step, the weights changed; the loss before that, summed over the part's rows."""
        self.optimizer.zero_grad(set_to_none=True)
        with mixed(self.module.device, self.options.precision):
            scores = part.scores(self.module)
        loss = self.head.value(scores.to(self.module.dtype), targets)
        if not loss.requires_grad:
            raise QueryError("the prediction depends on no parameter, so there is nothing to train")
        found = loss.item()
        if not math.isfinite(found):
            raise DataError(self._why_strange(number, f"the loss is {found}", part.batch))
        loss.backward()  # type: ignore[no-untyped-call]
        found, count = self.team.combine(self.learned, found, len(targets), self.module.device)
        if self.options.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.learned, self.options.clip)
        self.optimizer.step()
        return found * count

    def _validate(self, number: int) -> tuple[float | None, float | None]:
        """Loss and metric on the validation rows, None where there are none."""
        if self.val is None or self.truths is None:
            return None, None
        self.module.eval()
        scores = []
        with torch.no_grad():
            for part, _ in self.val.ordered():
                found = part.scores(self.module)
                if not bool(torch.isfinite(found).all()):
                    what = "a validation row's prediction is not finite"
                    raise DataError(self._why_strange(number, what, part.batch))
                scores.append(found)
        whole, targets = self.team.gathered(torch.cat(scores)), self.truths
        loss = self._loss_of_known(whole, targets)
        if self.metric == "loss":
            return loss, loss
        probabilities = self.head.probabilities(whole)
        return loss, measure(self.metric, self.head, targets.cpu().numpy(), probabilities)

    def _loss_of_known(self, scores: Tensor, targets: Tensor) -> float | None:
        """The loss over rows of classes that training had too; None without such rows."""
        if self.head.classes is not None:
            met = targets < len(self.head.classes)
            scores, targets = scores[met], targets[met]
        return float(self.head.value(scores, targets)) if len(targets) else None

    # -- what to say when numbers leave all bounds -------------------------------------------------

    def _why_strange(self, number: int, what: str, batch: Batch) -> str:
        """The likely cause of a number that is not finite."""
        what = f"{what} in epoch {number}"
        if number > 1 or not all(bool(torch.isfinite(p).all()) for p in self.learned):
            return (
                f"{what}: the weights have grown without bounds. Take a smaller `lr` (it is "
                f"{self.options.lr:g}), bound the gradient with `clip`, or scale large inputs and "
                "labels"
            )
        step = self.module.first_strange(batch)
        if step is None:
            return f"{what}: the prediction or the label is too large; scale it"
        return (
            f"{what}: `{_written(batch.plan, step)}` gives a number that is not finite. Keep its "
            "argument in range, or scale large inputs"
        )

    def finish(self) -> None:
        """Settle which weights are kept; DataError where they are not finite.

        The last step may have spoilt the weights after the last loss was seen.
        """
        if self.val is None:
            self.best_state = self.module.state()
        for name, value in self.best_state.items():
            if not bool(torch.isfinite(value).all()):
                raise DataError(
                    f"`{name}` is not finite after training. Take a smaller `lr` (it is "
                    f"{self.options.lr:g}) or bound the gradient with `clip`"
                )


def _groups(module: QueryModule, options: Options) -> list[dict[str, Any]]:
    """What an optimizer learns: the model's own parameters, and those of its text encoders."""
    pretrained = module.of_encoders
    others = {id(p) for p in pretrained}
    own = [p for p in module.parameters() if p.numel() and id(p) not in others]
    groups: list[dict[str, Any]] = [
        {"params": own},
        {"params": pretrained, "lr": options.encoder_lr},
    ]
    return [g for g in groups if g["params"]]


def _optimizer(parameters: list[dict[str, Any]], options: Options) -> torch.optim.Optimizer:
    lr, decay, momentum = options.lr, options.weight_decay, options.momentum
    match options.optimizer:
        case "adam":
            return torch.optim.Adam(parameters, lr=lr, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=lr, weight_decay=decay, fused=True)
        case "sgd":
            return torch.optim.SGD(
                parameters, lr=lr, weight_decay=decay, momentum=momentum, fused=True
            )
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=lr, weight_decay=decay, momentum=momentum)
        case "adagrad":
            return torch.optim.Adagrad(parameters, lr=lr, weight_decay=decay, fused=True)


def _written(plan: Plan, number: int) -> str:
    """A step as a term over the terms it reads."""
    operation = plan.steps[number].operation
    if not isinstance(operation, Term):
        return type(operation).__name__
    text = str(operation)
    for name in sorted(operation.fields, key=len, reverse=True):
        inner = plan.steps[int(name[1:])].operation
        text = text.replace(name, str(inner) if isinstance(inner, Term) else "…")
    return text
