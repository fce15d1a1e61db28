"""Training: a plan, row maps and options in; weights, encoders and a learning curve out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from relann.algebra.explain import Profile
from relann.algebra.plan import Plan
from relann.algebra.rowmaps import RowMaps
from relann.algebra.terms import Content, Norm
from relann.errors import DataError, QueryError, listing
from relann.models.batches import Batches, Sliced
from relann.models.learning import CURVE as CURVE
from relann.models.learning import Learning, Watch, curve_table, unwatched
from relann.models.losses import Head, infer_head
from relann.models.metrics import default_metric, metrics_of
from relann.models.options import Options
from relann.models.progress import progress
from relann.models.splits import Numbers, labelled, output_column, prediction_step, split_rows
from relann.models.team import ALONE, Team
from relann.provenance.arrays import shared
from relann.provenance.devices import chosen, deterministic, memory
from relann.provenance.encoders import Encoders
from relann.provenance.module import QueryModule
from relann.provenance.parameters import arrays
from relann.provenance.profile import profile
from relann.provenance.slices import cut

log = logging.getLogger("relann")


@dataclass(frozen=True)
class Trained:
    """A model that can predict.

    weights     parameters and running statistics by name
    encoders    what was fitted on the training rows
    head        what the prediction is of
    curve       one row for each epoch, see CURVE; none if it was not trained
    best_epoch  whose weights these are, None if it was not trained
    rows        how many labelled rows each split has, as far as its rows were looked at
    device      where it predicts: a choice of `devices.chosen`
    """

    weights: dict[str, Tensor]
    encoders: Encoders
    head: Head
    options: Options
    curve: pa.Table
    best_epoch: int | None
    rows: dict[str, int]
    device: str = "cpu"

    def state(self) -> dict[str, pa.Table]:
        """What was fitted beside the weights, as tables by name."""
        return self.encoders.state()

    def check(self, plan: Plan) -> None:
        """Raise DataError where weights are missing for a plan, or what was fitted."""
        self.encoders.check(plan)
        names = [a.parameter.name for a in arrays(plan)]
        if missing := [f"`{n}`" for n in names if n not in self.weights]:
            raise DataError(f"the weights lack {listing(missing, 5)}")

    def module(self, plan: Plan) -> QueryModule:
        """The network with these weights, ready to predict."""
        module = QueryModule(plan, self.encoders, self.options.seed, device=chosen(self.device))
        module.load(self.weights)
        return module.eval()


def fit(maps: RowMaps, options: Options, watch: Watch = unwatched, team: Team = ALONE) -> Trained:
    """A trained model. The same data, options and number of threads give the same bits.

    Encoders are fitted on the rows that labelled training rows reach, and on no others. Every epoch
    is one step on all of them, or one for each `batch_size` of them in an order drawn from the
    seed. The weights kept are those of the epoch that is best on the validation rows; the last
    epoch's where there are none. Torch's global random state is neither read nor changed. `watch`
    is told each epoch and may end the training there.

    In a `team` of processes, each with the same row maps, the steps are on the same rows and their
    gradients those of one process but for rounding and dropout; every process gets the same model.

    With `train = false` the weights are the start values and encoders are fitted all the same; a
    label is not needed then.

    Raises QueryError where options and output do not fit, DataError where the data cannot be
    learned from: labels missing, constant or of too many classes, no training rows, NULL
    predictions, numbers that are not finite.
    """
    width = maps.plan.steps[prediction_step(maps.plan)].width
    if options.label is None:
        if options.train:
            raise QueryError("a model needs a label to train: OPTIONS (label = …)")
        everything = np.arange(maps.counts[maps.plan.output])
        return _untrained(maps, options, Head(None, width), everything, {})
    labels = _Labels.of(maps, options)
    rows = {name: len(found) for name, found in labels.rows.items()}
    if not options.train:
        return _untrained(maps, options, labels.head, labels.rows["train"], rows)
    device = device_of(options)
    team.use(device)
    return trained_by(
        lambda: _learning(maps, options, labels, team), options, labels.head, rows, device, watch,
        team,
    )  # fmt: skip


def trained_by(
    begin: Callable[[], tuple[Learning, Encoders]],
    options: Options,
    head: Head,
    rows: dict[str, int],
    device: torch.device,
    watch: Watch = unwatched,
    team: Team = ALONE,
) -> Trained:
    """What the epochs of a training come to that `begin` makes ready; arguments as in `fit`."""
    curve = []
    with (
        memory(device, "training", remedy(options)),
        deterministic(device, options.deterministic),
        progress(options.epochs, shown=team.rank == 0) as show,
    ):
        learning, encoders = begin()
        for epoch in learning.epochs():
            curve.append(epoch)
            show(epoch.told(learning.metric))
            if team.leading(watch(epoch)):
                log.info("stopped after epoch %d: told so", epoch.epoch)
                break
    learning.finish()
    assert learning.best is not None
    best = learning.best.epoch
    log.info("kept epoch %d of %d", best, len(curve))
    table = curve_table(curve, learning.metric, best)
    weights = {name: value.cpu() for name, value in learning.best_state.items()}
    return Trained(weights, encoders, head, options, table, best, rows, str(device))


def device_of(options: Options) -> torch.device:
    """Where a model is trained; errors as `devices.chosen` has them."""
    return chosen(options.device or "cpu", options.span("device"))


def remedy(options: Options) -> str:
    """What to do where memory does not suffice."""
    if options.batch_size is None:
        return "Take the rows in parts: OPTIONS (batch_size = 1024), or train on the cpu"
    return f"Take a smaller `batch_size` (it is {options.batch_size}), or train on the cpu"


def learning_of(maps: RowMaps, options: Options) -> Learning:
    """A training that is ready for its first epoch; options and errors as `fit` has them."""
    return _learning(maps, options, _Labels.of(maps, options))[0]


def profiled(maps: RowMaps, options: Options) -> Profile | None:
    """What an epoch takes and how many rows it runs on; None where the output has no embedding.

    With a label these are the rows that training needs and the loss is the model's. Without one
    all rows are computed, and the loss is the sum of the first output.
    """
    if not maps.plan.values:
        return None
    if options.label is None:
        encoders = Encoders.fit(maps.plan, maps)
        module = QueryModule(maps.plan, encoders, options.seed, device=device_of(options))
        return profile(module, module.bind(maps), torch.sum)
    learning = learning_of(maps, options)
    with closing(learning.train.shuffled(np.random.default_rng(options.seed))) as parts:
        part, targets = next(parts)
    head = learning.head
    return profile(learning.module, part.batch, lambda s: head.value(part.asked(s), targets))


@dataclass(frozen=True)
class _Labels:
    """What is to be learned: the label of every output row, the labelled rows of each split."""

    column: Content
    values: pa.Array
    rows: dict[str, Numbers]
    head: Head

    @classmethod
    def of(cls, maps: RowMaps, options: Options) -> _Labels:
        """Read from the output; QueryError or DataError where nothing can be learned from it."""
        assert options.label is not None
        column = output_column(maps.plan, options.label, "label", options.span("label"))
        values = maps.columns[maps.plan.output, column]
        rows = labelled_rows(maps, options, values)
        train, val = (values.take(pa.array(rows[name])) for name in ("train", "val"))
        width = maps.plan.steps[prediction_step(maps.plan)].width
        span = options.span("loss") or options.span("label")
        return cls(column, values, rows, infer_head(column, width, train, val, options.loss, span))


def _learning(
    maps: RowMaps, options: Options, labels: _Labels, team: Team = ALONE
) -> tuple[Learning, Encoders]:
    _check_norms(maps.plan, team)
    head, train, val = labels.head, labels.rows["train"], labels.rows["val"]
    metric = deciding_metric(options, head, len(val))
    reached = cut(maps, train)
    encoders = Encoders.fit(maps.plan, reached.maps, options.finetune)
    module = QueryModule(maps.plan, encoders, options.seed, device=device_of(options))
    source = Sliced(module, maps)
    targets = shared(head.targets(labels.values, labels.column)).to(module.device)
    size = options.batch_size
    team.agree("what they train on", lambda: _digest(maps, module, labels.rows, targets))
    module.draw_as(team.rank)
    batches = Batches(
        source, train, targets[_index(train, targets)], size, "training", reached, team.share
    )
    mine = team.share(val)
    part = None if size is None else -(-size // team.size)
    checks = Batches(source, mine, targets[_index(mine, targets)], part, "validation")
    checked = checks if len(val) else None
    return Learning(module, head, options, metric, batches, checked, team), encoders


def _check_norms(plan: Plan, team: Team) -> None:
    """QueryError where a step's rows are normalised by what they have in common."""
    norms = [s.operation for s in plan.steps if isinstance(s.operation, Norm)]
    if team.size > 1 and any(n.kind == "batch" for n in norms):
        raise QueryError(
            "batch_norm takes mean and deviation over all rows of a step, and each of several "
            "processes has only its share of them: take layer_norm, or train in one process"
        )


def _digest(
    maps: RowMaps, module: QueryModule, rows: Mapping[str, Numbers], targets: Tensor
) -> bytes:
    """What tells trainings on other data from each other: rows, labels, encoders, weights."""
    found = sha256(repr(maps.counts).encode())
    for name, numbers in rows.items():
        found.update(name.encode() + numbers.tobytes())
    found.update(targets.cpu().numpy().tobytes())
    for site, table in sorted(module.encoders.state().items()):
        found.update(repr((site, table.to_pylist())).encode())
    for name, value in sorted(module.state().items()):
        found.update(name.encode() + value.cpu().numpy().tobytes())
    return found.digest()


def _index(rows: Numbers, of: Tensor) -> Tensor:
    return torch.from_numpy(rows).to(of.device)


def _untrained(
    maps: RowMaps, options: Options, head: Head, rows: Numbers, counts: dict[str, int]
) -> Trained:
    """A model with its start values; encoders fitted all the same."""
    encoders = Encoders.fit(maps.plan, cut(maps, rows).maps, options.finetune)
    weights = QueryModule(maps.plan, encoders, options.seed).state()
    curve = curve_table([], "loss", None)
    return Trained(weights, encoders, head, options, curve, None, counts)


def labelled_rows(maps: RowMaps, options: Options, labels: pa.Array) -> dict[str, Numbers]:
    """The labelled rows of each split; the log says how rows were split and what was left out.

    `labels` are those of every output row. DataError where there are no training rows.
    """
    assert options.label is not None
    span = options.span("split")
    found = split_rows(maps, options.split, options.label, options.seed, span)
    if options.split is None:
        log.info("no split column: rows are split 80/10/10 by a hash of their content and the seed")
    out = {name: labelled(labels, rows) for name, rows in found.items()}
    for name, rows in found.items():
        if dropped := len(rows) - len(out[name]):
            log.info("%d of %d %s rows have no label and are not used", dropped, len(rows), name)
    counts = ", ".join(f"{len(r)} {n}" for n, r in out.items())
    whole = maps.counts[maps.plan.output]
    if not len(found["train"]):
        how = f"`{options.split}` is 'train' in none of" if options.split else "there are"
        raise DataError(f"there are no training rows: {how} {whole} rows")
    if not len(out["train"]):
        raise DataError(
            f"every label `{options.label}` of the {len(found['train'])} training rows is NULL"
        )
    log.info("labelled rows: %s, of %d rows in all", counts, whole)
    return out


def deciding_metric(options: Options, head: Head, validated: int) -> str:
    """Which metric picks the best epoch.

    `validated` is how many rows there are to measure it on. Raises QueryError for a metric that the
    loss has not, DataError for patience without validation rows.
    """
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
