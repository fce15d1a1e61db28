"""Training: a plan, row maps and options in; weights, encoders and a learning curve out."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from relann.algebra.plan import Plan
from relann.algebra.rowmaps import RowMaps
from relann.algebra.terms import Term
from relann.errors import DataError, QueryError
from relann.models.losses import Head, infer_head
from relann.models.metrics import default_metric, is_better, measure, metrics_of
from relann.models.options import Options
from relann.models.splits import (
    Numbers,
    check_predicted,
    labelled,
    output_column,
    prediction_step,
    split_rows,
)
from relann.provenance.encoders import Encoders
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
class Trained:
    """A model that can predict.

    weights     parameters and running statistics by name
    encoders    what was fitted on the training rows
    head        what the prediction is of
    curve       one row for each epoch, see CURVE; none if it was not trained
    best_epoch  whose weights these are, None if it was not trained
    rows        how many labelled rows each split has
    """

    weights: dict[str, Tensor]
    encoders: Encoders
    head: Head
    options: Options
    curve: pa.Table
    best_epoch: int | None
    rows: dict[str, int]

    def module(self, plan: Plan) -> QueryModule:
        """The network with these weights, ready to predict."""
        module = QueryModule(plan, self.encoders, self.options.seed)
        module.load(self.weights)
        return module.eval()


def fit(plan: Plan, maps: RowMaps, options: Options) -> Trained:
    """A trained model. The same data, options and number of threads give the same bits.

    Encoders are fitted on the rows that labelled training rows reach, and on no others. Every epoch
    is one step on all of them, or one for each `batch_size` of them in an order drawn from the seed.
    The weights kept are those of the epoch that is best on the validation rows; the last epoch's
    where there are none. Torch's global random state is neither read nor changed.

    Raises QueryError where options and output do not fit, DataError where the data cannot be learned
    from: labels missing, constant or of too many classes, no training rows, NULL predictions,
    numbers that are not finite.
    """
    width = plan.steps[prediction_step(plan)].width
    if options.label is None:
        if options.train:
            raise QueryError("a model needs a label to train: OPTIONS (label = …)")
        everything = np.arange(_count(plan, maps))
        return _untrained(plan, maps, options, Head(None, width), everything, {})
    label = output_column(plan, options.label, "label", options.span("label"))
    labels = maps.columns[plan.output, label]
    splits = _splits(plan, maps, options, labels)
    train, val = splits["train"], splits["val"]
    known = [labels.take(pa.array(rows)) for rows in (train, val)]
    span = options.span("loss") or options.span("label")
    head = infer_head(label, width, known[0], known[1], options.loss, span)
    rows = {name: len(found) for name, found in splits.items()}
    if not options.train:
        return _untrained(plan, maps, options, head, train, rows)
    metric = _metric(options, head, len(val))
    targets = head.targets(labels, label)
    reached = maps.restrict(train)
    encoders = Encoders.fit(plan, reached)
    module = QueryModule(plan, encoders, options.seed)
    learning = _Learning(
        plan,
        module,
        head,
        options,
        metric,
        _Batches(module, reached, targets[train], options, "training"),
        _validation(module, maps, val, targets, options),
    )
    with _progress(options.epochs) as show:
        curve, best = learning.run(show)
    log.info("kept epoch %d of %d", best, len(curve))
    state = learning.best_state
    return Trained(state, encoders, head, options, curve_table(curve, metric, best), best, rows)


def _count(plan: Plan, maps: RowMaps) -> int:
    return maps.counts[plan.output]


def _untrained(
    plan: Plan, maps: RowMaps, options: Options, head: Head, rows: Numbers, counts: dict[str, int]
) -> Trained:
    """A model with its start values; encoders fitted all the same."""
    encoders = Encoders.fit(plan, maps.restrict(rows))
    weights = QueryModule(plan, encoders, options.seed).state()
    curve = curve_table([], "loss", None)
    return Trained(weights, encoders, head, options, curve, None, counts)


def _splits(plan: Plan, maps: RowMaps, options: Options, labels: pa.Array) -> dict[str, Numbers]:
    """The labelled rows of each split; says in the log how rows were split and what was left out."""
    assert options.label is not None
    span = options.span("split")
    found = split_rows(plan, maps, options.split, options.label, options.seed, span)
    if options.split is None:
        log.info("no split column: rows are split 80/10/10 by a hash of their content and the seed")
    out = {name: labelled(labels, rows) for name, rows in found.items()}
    for name, rows in found.items():
        if dropped := len(rows) - len(out[name]):
            log.info("%d of %d %s rows have no label and are not used", dropped, len(rows), name)
    counts = ", ".join(f"{len(rows)} {name}" for name, rows in out.items())
    if not len(found["train"]):
        whole = _count(plan, maps)
        how = f"`{options.split}` is 'train' in none of" if options.split else "there are"
        raise DataError(f"there are no training rows: {how} {whole} rows")
    if not len(out["train"]):
        raise DataError(
            f"every label `{options.label}` of the {len(found['train'])} training rows is NULL"
        )
    log.info("labelled rows: %s, of %d rows in all", counts, _count(plan, maps))
    return out


def _metric(options: Options, head: Head, validated: int) -> str:
    if not validated and options.patience is not None:
        raise DataError(
            "`patience` waits for a better validation metric, and there are no validation rows"
        )
    if options.metric is None:
        return default_metric(head)
    known = ("loss", *metrics_of(head))
    if options.metric not in known:
        raise QueryError(
            f"`{options.metric}` is no metric of a model whose loss is {head.loss}; "
            f"there are {', '.join(known)}",
            options.span("metric"),
        )
    return options.metric


class _Batches:
    """Rows with labels, bound: all at once, or in slices of the same maps."""

    def __init__(
        self,
        module: QueryModule,
        maps: RowMaps,
        targets: npt.NDArray[np.int64] | npt.NDArray[np.float64],
        options: Options,
        name: str,
    ) -> None:
        self.module = module
        self.targets = torch.from_numpy(targets)
        self.size = options.batch_size or len(targets)
        self.name = name
        self.inputs = module.inputs(maps)
        self.whole: Batch | None = None
        self.fixed: list[tuple[Batch, Tensor]] = []
        if self.size >= len(targets):
            self.whole = self._checked(module.bind(maps, self.inputs), len(targets))
        else:  # what is encoded already need not be sliced a second time
            self.maps = replace(maps, columns={}, kept={})

    def shuffled(self, source: np.random.Generator) -> Iterator[tuple[Batch, Tensor]]:
        """Every row once, in slices drawn at random."""
        if self.whole is not None:
            yield self.whole, self.targets
            return
        order = source.permutation(len(self.targets))
        for begin in range(0, len(order), self.size):
            yield self._slice(np.sort(order[begin : begin + self.size]))

    def ordered(self) -> Iterator[tuple[Batch, Tensor]]:
        """Every row once, in order; bound once."""
        if self.whole is not None:
            yield self.whole, self.targets
            return
        if not self.fixed:
            rows = np.arange(len(self.targets))
            starts = range(0, len(rows), self.size)
            self.fixed = [self._slice(rows[begin : begin + self.size]) for begin in starts]
        yield from self.fixed

    def _slice(self, rows: Numbers) -> tuple[Batch, Tensor]:
        part = self.maps.restrict(rows)
        batch = self.module.bind(part, self.inputs.take(part.kept))
        return self._checked(batch, len(rows)), self.targets[torch.from_numpy(rows)]

    def _checked(self, batch: Batch, rows: int) -> Batch:
        check_predicted(batch.outputs[0][2], rows, self.name)
        return batch


def _validation(
    module: QueryModule,
    maps: RowMaps,
    rows: Numbers,
    targets: npt.NDArray[np.int64] | npt.NDArray[np.float64],
    options: Options,
) -> _Batches | None:
    if not len(rows):
        return None
    return _Batches(module, maps.restrict(rows), targets[rows], options, "validation")


@dataclass(frozen=True)
class Epoch:
    """One row of the learning curve."""

    epoch: int
    loss: float
    validation_loss: float | None
    validation: float | None
    seconds: float


def curve_table(curve: Sequence[Epoch], metric: str, best: int | None) -> pa.Table:
    """The learning curve as a table; see CURVE."""
    rows = [{**vars(e), "metric": metric, "best": e.epoch == best} for e in curve]
    return pa.Table.from_pylist(rows, schema=CURVE)


class _Learning:
    """The epochs of one training."""

    def __init__(
        self,
        plan: Plan,
        module: QueryModule,
        head: Head,
        options: Options,
        metric: str,
        train: _Batches,
        val: _Batches | None,
    ) -> None:
        self.plan = plan
        self.module = module
        self.head = head
        self.options = options
        self.metric = metric
        self.train = train
        self.val = val
        self.learned = [p for p in module.parameters() if p.numel()]
        if not self.learned:
            raise QueryError("the model has no parameters, so there is nothing to train")
        self.optimizer = _optimizer(self.learned, options)
        self.source = np.random.default_rng(options.seed)
        self.best_state: dict[str, Tensor] = {}

    def run(self, show: _Show) -> tuple[list[Epoch], int]:
        """Train; the learning curve and the best epoch, whose weights `best_state` then holds."""
        curve: list[Epoch] = []
        best: Epoch | None = None
        for number in range(1, self.options.epochs + 1):
            began = time.perf_counter()
            loss = self._step_through(number)
            validation_loss, validation = self._validate(number)
            epoch = Epoch(number, loss, validation_loss, validation, time.perf_counter() - began)
            curve.append(epoch)
            if best is None or self.val is None or self._beats(epoch, best):
                best = epoch
                if self.val is not None or number == self.options.epochs:
                    self.best_state = self.module.state()
            show(epoch, self.metric)
            if self.options.patience and number - best.epoch >= self.options.patience:
                log.info("stopped after epoch %d: no better for %d", number, number - best.epoch)
                break
        assert best is not None
        self._check_weights()
        return curve, best.epoch

    def _beats(self, epoch: Epoch, best: Epoch) -> bool:
        """A better metric; or an equal one with less loss."""
        if epoch.validation != best.validation:
            return is_better(self.metric, epoch.validation, best.validation)
        return is_better("loss", epoch.validation_loss, best.validation_loss)

    def _step_through(self, number: int) -> float:
        self.module.train()
        total = torch.zeros((), dtype=torch.float64)
        for batch, targets in self.train.shuffled(self.source):
            self.optimizer.zero_grad(set_to_none=True)
            (scores, _), *_ = self.module(batch)
            loss = self.head.value(scores, targets)
            if not loss.requires_grad:
                raise QueryError(
                    "the prediction depends on no parameter, so there is nothing to train"
                )
            if not math.isfinite(loss.item()):
                raise DataError(self._strange(number, float(loss), batch))
            loss.backward()  # type: ignore[no-untyped-call]
            if self.options.clip is not None:
                torch.nn.utils.clip_grad_norm_(self.learned, self.options.clip)
            self.optimizer.step()
            total += loss.detach().double() * len(targets)
        return float(total) / len(self.train.targets)

    def _validate(self, number: int) -> tuple[float | None, float | None]:
        if self.val is None:
            return None, None
        self.module.eval()
        scores = []
        with torch.no_grad():
            for batch, _ in self.val.ordered():
                (found, _), *_ = self.module(batch)
                if not bool(torch.isfinite(found).all()):
                    raise DataError(self._strange(number, math.nan, batch))
                scores.append(found)
        whole, targets = torch.cat(scores), self.val.targets
        known = targets
        known_scores = whole
        if self.head.classes is not None:  # a class that training did not have has no loss
            met = targets < len(self.head.classes)
            known, known_scores = targets[met], whole[met]
        loss = float(self.head.value(known_scores, known)) if len(known) else None
        if self.metric == "loss":
            return loss, loss
        found = self.head.probabilities(whole)
        return loss, measure(self.metric, self.head, targets.numpy(), found)

    def _strange(self, number: int, loss: float, batch: Batch) -> str:
        """Why a loss is not finite, as far as can be told."""
        what = f"the loss is {loss} in epoch {number}"
        weights = all(bool(torch.isfinite(p).all()) for p in self.learned)
        if not weights or number > 1:
            return (
                f"{what}: the weights have grown without bounds. Take a smaller `lr` (it is "
                f"{self.options.lr:g}), bound the gradient with `clip`, or scale large inputs and "
                "labels"
            )
        step = self.module.first_strange(batch)
        if step is None:
            return f"{what}: the prediction or the label is too large; scale it"
        operation = self.plan.steps[step].operation
        name = str(operation) if isinstance(operation, Term) else type(operation).__name__
        return (
            f"{what}: `{self._written(operation, name)}` gives a number that is not finite. Keep its "
            "argument in range, or scale large inputs"
        )

    def _written(self, operation: object, name: str) -> str:
        """A step with the content it was computed from, where that is one step away."""
        if isinstance(operation, Term):
            for field in sorted(operation.fields, key=len, reverse=True):
                inner = self.plan.steps[int(field[1:])].operation
                name = name.replace(field, str(inner) if isinstance(inner, Term) else "…")
        return name

    def _check_weights(self) -> None:
        """A last step may have spoilt the weights after the last loss was seen."""
        for name, value in self.best_state.items():
            if not bool(torch.isfinite(value).all()):
                raise DataError(
                    f"`{name}` is not finite after training. Take a smaller `lr` (it is "
                    f"{self.options.lr:g}) or bound the gradient with `clip`"
                )


def _optimizer(parameters: list[torch.nn.Parameter], options: Options) -> torch.optim.Optimizer:
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


class _Show:
    """The progress line: one on a terminal, nothing elsewhere."""

    def __init__(self, progress: Progress | None, epochs: int) -> None:
        self.progress = progress
        if progress is not None:
            self.task = progress.add_task("", total=epochs, status="")

    def __call__(self, epoch: Epoch, metric: str) -> None:
        """Show an epoch."""
        if self.progress is None:
            return
        status = f"epoch {epoch.epoch}  loss {epoch.loss:.4f}"
        if epoch.validation is not None:
            status += f"  validation {metric} {epoch.validation:.4f}"
        self.progress.update(self.task, advance=1, status=status)


@contextmanager
def _progress(epochs: int) -> Iterator[_Show]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Show(None, epochs)
        return
    columns = (TextColumn("{task.fields[status]}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        yield _Show(progress, epochs)
