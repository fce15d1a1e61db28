"""Gradient-boosted trees over the content columns of a query, grown by LightGBM."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from relann.algebra.plan import Plan
from relann.algebra.rowmaps import RowMaps
from relann.algebra.terms import Content, array_width, is_numeric, is_text, is_time
from relann.errors import DataError, EngineError, QueryError, did_you_mean, listing
from relann.models.learning import Epoch, Watch, curve_table, unwatched
from relann.models.losses import Head, Targets, infer_head
from relann.models.metrics import is_better, measure
from relann.models.options import Options
from relann.models.progress import progress
from relann.models.splits import Numbers, output_column
from relann.models.training import deciding_metric, labelled_rows
from relann.provenance.encoders import Vocabulary, instants, mixed

log = logging.getLogger("relann")

Floats = npt.NDArray[np.float64]

MOST_CATEGORIES = 1000
"""How many values of a text column are told apart: the most frequent of the training rows."""

PATIENCE = 50
"""Rounds without a better validation metric after which training stops, unless told otherwise."""

_TREES, _FEATURES, _CATEGORIES = "(trees)", "(features)", "(categories) "
_OBJECTIVES = {
    "bce": "binary",
    "cross_entropy": "multiclass",
    "mse": "regression",
    "mae": "regression_l1",
    "huber": "huber",
}
LARGEST = 1e300
"""What larger numbers count as: beyond it a threshold between two numbers may overflow."""

_SMALLEST = 1e-15  # probabilities below count as this in a loss, as in LightGBM


@dataclass(frozen=True)
class Feature:
    """A column that trees split on.

    `kind` is `number`, `time`, `category` or `array`. `width` is how many numbers a row has.
    `categories` are the values of a category that training rows have, the most frequent first.
    """

    name: str
    kind: str
    width: int = 1
    categories: Vocabulary | None = None

    @classmethod
    def of(cls, name: str, sql_type: str) -> Feature:
        """A column's feature, not fitted yet; QueryError for a type that trees cannot split on."""
        if is_numeric(sql_type):
            return cls(name, "number")
        if is_time(sql_type):
            return cls(name, "time")
        if is_text(sql_type):
            return cls(name, "category")
        if width := array_width(sql_type):
            return cls(name, "array", width)
        raise QueryError(
            f"trees split on numbers, times, texts and FLOAT[n], and `{name}` is {sql_type}; cast "
            f"it, take its parts as columns, or leave it out with OPTIONS (exclude = ['{name}'])"
        )

    def fitted(self, values: pa.Array) -> Feature:
        """The feature with the categories of the training rows."""
        if self.kind != "category":
            return self
        known = values.filter(values.is_valid())
        return Feature(self.name, self.kind, 1, Vocabulary.fit([[known]], MOST_CATEGORIES))

    @property
    def names(self) -> list[str]:
        """What its numbers are called, as SQL writes them."""
        if self.kind != "array":
            return [self.name]
        return [f"{self.name}[{i}]" for i in range(1, self.width + 1)]

    def numbers(self, values: pa.Array, content: Content) -> Floats:
        """What trees see of each row, NaN where it is missing. Shape (rows, width).

        Times are seconds since 1970, categories their number; missing are NULL, NaN and categories
        that training had not.
        """
        match self.kind:
            case "time":
                times = instants(values, content)
                seconds = times.astype(np.int64) / 1e6
                return np.where(np.isnat(times), np.nan, seconds)[:, None]
            case "category":
                assert self.categories is not None
                rows = self.categories.rows([values])
                return np.where(rows < 0, np.nan, rows)[:, None]
            case "array":
                parts = values.values.slice(values.offset * self.width, len(values) * self.width)
                flat = _floats(parts).reshape(len(values), self.width).copy()
                flat[values.is_null().to_numpy(zero_copy_only=False)] = np.nan
                return flat
        return _floats(values)[:, None]


def _floats(values: pa.Array) -> Floats:
    """Numbers or booleans in float64, NaN where NULL, infinite ones as the largest we take."""
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    wide: Floats = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.clip(wide, -LARGEST, LARGEST)


@dataclass(frozen=True)
class Boosted:
    """Trees that can predict.

    trees       as LightGBM writes them: the rounds up to the best
    features    the columns they split on, in the order of training
    curve       one row for each round, see CURVE
    best_epoch  the last round that is kept, None where none was grown
    rows        how many labelled rows each split has
    """

    trees: str
    features: tuple[Feature, ...]
    head: Head
    options: Options
    curve: pa.Table
    best_epoch: int | None
    rows: dict[str, int]

    @classmethod
    def defined(cls, options: Options) -> Boosted:
        """Trees that are still to be grown."""
        return cls("", (), Head(None, 1), options, curve_table([], "loss", None), None, {})

    @property
    def weights(self) -> dict[str, Tensor]:
        """None: what trees hold is in their `state`."""
        return {}

    @cached_property
    def _booster(self) -> Any:
        return _library().Booster(model_str=self.trees)

    def check(self, plan: Plan) -> None:
        """Raise DataError unless a plan's output has the columns that the trees split on."""
        self.check_columns({name: content.type for name, content in plan.contents})

    def check_columns(self, types: Mapping[str, str]) -> None:
        """Raise DataError unless columns with these types are what the trees split on."""
        for feature in self.features:
            kind = types.get(feature.name)
            if kind is None:
                raise DataError(
                    f"the trees split on `{feature.name}`, which the output has no more"
                )
            try:
                now = Feature.of(feature.name, kind)
            except QueryError as error:
                raise DataError(str(error)) from error
            if (now.kind, now.width) != (feature.kind, feature.width):
                raise DataError(
                    f"the trees split on `{feature.name}` as a {feature.kind}, and it is {kind} now"
                )

    def dumped(self) -> list[dict[str, Any]]:
        """The roots of the trees as LightGBM tells them; of k classes each k-th is one's own."""
        return [t["tree_structure"] for t in self._booster.dump_model()["tree_info"]]

    def scores(self, maps: RowMaps, rows: Numbers | None = None) -> Tensor:
        """The trees' sums for output rows (None: all). float64, shape (rows, head's width).

        A row's numbers do not depend on which other rows are asked for. Raises DataError where a
        column is gone or has become something else.
        """
        self.check(maps.plan)
        seen = _matrix(self.features, _contents(self.features, maps.plan), maps, rows)
        if not len(seen):
            return torch.zeros(0, self.head.width, dtype=torch.float64)
        found = self._booster.predict(seen, raw_score=True, num_threads=torch.get_num_threads())
        return torch.from_numpy(np.asarray(found, dtype=np.float64).reshape(len(seen), -1))

    def importance(self) -> pa.Table:
        """(feature, gain, splits): how much splits on a feature lowered the loss, largest first.

        A feature without splits is there with zeros; an array has a row for each of its numbers.
        """
        columns = {
            "feature": pa.array([n for f in self.features for n in f.names], pa.string()),
            "gain": pa.array(self._booster.feature_importance("gain"), pa.float64()),
            "splits": pa.array(self._booster.feature_importance("split"), pa.int64()),
        }
        return pa.table(columns).sort_by([("gain", "descending"), ("feature", "ascending")])

    def state(self) -> dict[str, pa.Table]:
        """All that predicting needs beside head and options, as tables by name."""
        features = {
            "name": pa.array([f.name for f in self.features], pa.string()),
            "kind": pa.array([f.kind for f in self.features], pa.string()),
            "width": pa.array([f.width for f in self.features], pa.int32()),
        }
        categories = {
            _CATEGORIES + f.name: f.categories.table
            for f in self.features
            if f.categories is not None
        }
        trees = pa.table({"trees": pa.array([self.trees], pa.large_string())})
        return {_TREES: trees, _FEATURES: pa.table(features), **categories}

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, pa.Table],
        head: Head,
        options: Options,
        curve: pa.Table,
        best_epoch: int | None,
        rows: dict[str, int],
    ) -> Boosted:
        """What gave a `state`."""
        features = []
        for row in state[_FEATURES].to_pylist():
            kept = state.get(_CATEGORIES + row["name"])
            features.append(Feature(**row, categories=None if kept is None else Vocabulary(kept)))
        (trees,) = state[_TREES]["trees"].to_pylist()
        return cls(trees, tuple(features), head, options, curve, best_epoch, rows)


def features_of(
    plan: Plan, options: Options, ids: Collection[str] = frozenset()
) -> dict[str, Feature]:
    """The features of a plan's output by column: all but label, split, `exclude` and `ids`.

    Raises QueryError for learned columns, columns of types that trees cannot split on, and where
    nothing is left.
    """
    if plan.values:
        names = listing([f"`{n}`" for n, _ in plan.values])
        few = len(plan.values) == 1
        raise QueryError(
            f"head = 'gbdt' learns from columns that the database computes, and {names} "
            f"{'is' if few else 'are'} learned; trees have no gradient to train "
            f"{'it' if few else 'them'} with. Leave {'it' if few else 'them'} out, or leave "
            "`head` out",
            options.span("head"),
        )
    contents = dict(plan.contents)
    for name in options.exclude:
        if name not in contents:
            raise QueryError(
                f"`exclude` names `{name}`, which the output has not; it has {listing(contents)}."
                + did_you_mean(name, contents),
                options.span("exclude"),
            )
    left_out = {*options.hidden, *options.exclude, *ids}
    found = {n: Feature.of(n, c.type) for n, c in plan.contents if n not in left_out}
    if not found:
        raise QueryError(
            "the output has no column to learn from beside label, split, keys and what `exclude` "
            f"names; it has {listing(contents)}"
        )
    return found


def described(plan: Plan, options: Options, ids: Collection[str] = frozenset()) -> str:
    """What grows on a plan's output, in a few lines."""
    features = features_of(plan, options, ids)
    several = {"array": "×{}", "category": " (category)", "time": " (time)", "number": ""}
    shown = [f.name + several[f.kind].format(f.width) for f in features.values()]
    others = [n for n, _ in plan.contents if n not in features]
    lines = [
        "Head",
        f"  gbdt: up to {options.rounds} rounds of trees of {options.leaves} leaves, "
        f"lr {options.lr:g}",
        f"  features  {', '.join(shown)}",
    ]
    return "\n".join([*lines, *([f"  left out  {', '.join(others)}"] if others else [])])


def fit_boosted(
    maps: RowMaps,
    options: Options,
    ids: Collection[str] = frozenset(),
    watch: Watch = unwatched,
) -> Boosted:
    """Trees that predict the label from the output's other columns.

    `ids` are columns that identify rows and are no features. The same rows, in whatever order and
    on however many threads, with the same options and seed give the same bits. Rounds end after
    `patience` (50 where there are validation rows) without a better validation metric, and the
    trees up to the best round are kept; all of them where there are no validation rows. `watch` is
    told each round and may end the training there.

    Raises QueryError where options and output do not fit, DataError where the data cannot be
    learned from, EngineError where LightGBM is not installed.
    """
    library = _library()
    if options.label is None:
        raise QueryError("a model needs a label to train: OPTIONS (label = …)")
    label = output_column(maps.plan, options.label, "label", options.span("label"))
    values = maps.columns[maps.plan.output, label]
    rows = labelled_rows(maps, options, values)
    train, val = (values.take(pa.array(rows[name])) for name in ("train", "val"))
    head = _head(label, train, val, options)
    metric = deciding_metric(options, head, len(rows["val"]))
    found = features_of(maps.plan, options, ids)
    contents = _contents(tuple(found.values()), maps.plan)
    taken = pa.array(rows["train"])
    features = tuple(
        f.fitted(maps.columns[maps.plan.output, c].take(taken))
        for f, c in zip(found.values(), contents, strict=True)
    )
    log.info("features: %s", listing([n for f in features for n in f.names], 50))
    parts = [_Part.of(features, contents, maps, head, label, rows[n]) for n in ("train", "val")]
    if _is_constant(parts[0].seen):
        raise DataError(
            f"every feature ({listing(found)}) has one value in all {len(rows['train'])} training "
            "rows; there is nothing to learn from"
        )
    _check_precision(head, parts[0].targets, label)
    growing = _Growing(library, features, head, options, metric, parts[0], parts[1])
    curve = []
    with progress(options.rounds) as show:
        for epoch in growing.rounds():
            curve.append(epoch)
            show(epoch.told(metric))
            if watch(epoch):
                log.info("stopped after round %d: told so", epoch.epoch)
                break
    assert growing.best is not None
    best = growing.best.epoch
    log.info("kept round %d of %d", best, len(curve))
    return Boosted(
        growing.booster.model_to_string(num_iteration=best),
        features,
        head,
        options,
        curve_table(curve, metric, best),
        best,
        {name: len(some) for name, some in rows.items()},
    )


@dataclass(frozen=True)
class _Part:
    """The rows of a split: what trees see of them and what they are to say."""

    seen: Floats
    targets: Targets

    @classmethod
    def of(
        cls,
        features: Sequence[Feature],
        contents: Sequence[Content],
        maps: RowMaps,
        head: Head,
        label: Content,
        rows: Numbers,
    ) -> _Part:
        """In an order of the rows' own, so that sums do not depend on the table's."""
        seen = _matrix(features, contents, maps, rows)
        values = maps.columns[maps.plan.output, label].take(pa.array(rows))
        targets = head.targets(values, label)
        order = canonical_order(seen, targets)
        return cls(seen[order], targets[order])


def canonical_order(seen: Floats, targets: Targets) -> npt.NDArray[np.intp]:
    """The rows sorted by a hash of what they hold: the same for the same bag of rows."""
    total = mixed(targets.astype(np.float64).view(np.uint64))
    for column in seen.T:
        plain = np.where(np.isnan(column), np.nan, column + 0.0)  # one NaN, one zero
        total = mixed(total ^ plain.view(np.uint64))
    return np.argsort(total, kind="stable")


class _Growing:
    """One training of trees, round by round; `best` is the round to keep."""

    def __init__(
        self,
        library: ModuleType,
        features: Sequence[Feature],
        head: Head,
        options: Options,
        metric: str,
        train: _Part,
        val: _Part,
    ) -> None:
        self.head, self.options, self.metric = head, options, metric
        self.train, self.val = train, val if len(val.targets) else None
        self.best: Epoch | None = None
        kinds = [f.kind for f in features for _ in f.names]
        categories = [i for i, kind in enumerate(kinds) if kind == "category"]
        parameters = parameters_of(options, head)
        data = library.Dataset(
            train.seen,
            train.targets,
            feature_name=[f"f{i}" for i in range(len(kinds))],
            categorical_feature=categories,
            params=parameters,
        )
        try:
            self.booster = library.Booster(parameters, data)
            if self.val is not None:
                # our own losses are told, so classes that training had not do no harm
                harmless = np.zeros(len(val.targets))
                self.booster.add_valid(data.create_valid(val.seen, harmless), "validation")
        except library.basic.LightGBMError as error:
            raise DataError(f"LightGBM refuses the data: {error}") from error

    def rounds(self) -> Iterator[Epoch]:
        """Grow, one round at each turn, until all are done or patience has run out."""
        patience = self.options.patience or (PATIENCE if self.val is not None else None)
        for number in range(1, self.options.rounds + 1):
            began = time.perf_counter()
            ended = self.booster.update()
            if ended and number > 1:
                log.info("stopped after round %d: no split lowers the loss", number - 1)
                return
            if ended:
                log.info(
                    "no split lowers the loss, so all rows get one prediction; a leaf has at least "
                    "min_rows = %d of the %d training rows",
                    self.options.min_rows,
                    len(self.train.targets),
                )
            loss, _ = self._told(self.booster.eval_train, self.train, None)
            if loss is None or not math.isfinite(loss):
                raise DataError(
                    f"the loss is {loss} in round {number}. Take a smaller `lr` (it is "
                    f"{self.options.lr:g}), or scale the label down"
                )
            on_val: tuple[float | None, float | None] = (None, None)
            if self.val is not None:
                on_val = self._told(self.booster.eval_valid, self.val, self.metric)
            epoch = Epoch(number, loss, *on_val, time.perf_counter() - began)
            if self.val is None or self.best is None or self._beats(epoch, self.best):
                self.best = epoch
            yield epoch
            waited = number - self.best.epoch
            if patience and waited >= patience:
                log.info("stopped after round %d: no better for %d rounds", number, waited)
                return
            if ended:
                return

    def _beats(self, epoch: Epoch, best: Epoch) -> bool:
        if epoch.validation != best.validation:
            return is_better(self.metric, epoch.validation, best.validation)
        return is_better("loss", epoch.validation_loss, best.validation_loss)

    def _told(
        self, evaluate: Any, part: _Part, metric: str | None
    ) -> tuple[float | None, float | None]:
        """Loss and metric of the trees so far on a part's rows."""
        told: list[tuple[float | None, float | None]] = []

        def tell(predicted: Floats, _: object) -> tuple[str, float, bool]:
            found = predicted.reshape(len(part.targets), -1)
            if self.head.loss == "bce":
                found = np.concatenate([1 - found, found], axis=1)
            loss = loss_of(self.head, found, part.targets)
            if metric is None or metric == "loss":
                told.append((loss, loss))
            else:
                told.append((loss, measure(metric, self.head, part.targets, found)))
            return "told", 0.0, False

        evaluate(tell)
        return told[0]


def parameters_of(options: Options, head: Head) -> dict[str, Any]:
    """LightGBM's own parameters for a model's options."""
    found = {
        "objective": _OBJECTIVES[str(head.loss)],
        "learning_rate": options.lr,
        "num_leaves": options.leaves,
        "min_data_in_leaf": options.min_rows,
        "bagging_fraction": options.subsample,
        "bagging_freq": 1 if options.subsample < 1 else 0,
        "feature_fraction": options.columns,
        "lambda_l2": options.l2,
        "seed": options.seed % (2**31 - 1),
        "metric": "None",
        "verbosity": -1,
        # the same bits on any number of threads
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": torch.get_num_threads(),
    }
    if head.loss == "huber":
        found["alpha"] = 1.0
    if head.loss == "cross_entropy":
        found["num_class"] = head.width
    return found


def loss_of(head: Head, found: Floats, targets: Targets) -> float | None:
    """The mean loss over rows of classes that training had too; None without such rows.

    `found` are `Head.probabilities`.
    """
    if head.classes is not None:
        known = targets < len(head.classes)
        rows, classes = np.flatnonzero(known), targets[known].astype(np.int64)
        losses = -np.log(np.maximum(found[rows, classes], _SMALLEST))
    else:
        away = np.abs(targets - found[:, 0])
        match head.loss:
            case "mse":
                losses = np.square(away)
            case "huber":
                losses = np.where(away <= 1, np.square(away) / 2, away - 0.5)
            case _:
                losses = away
    return float(losses.mean()) if len(losses) else None


def _head(label: Content, train: pa.Array, val: pa.Array, options: Options) -> Head:
    """What the trees predict: as `infer_head` says, of as many numbers as there are classes."""
    classes = len(pc.unique(train.filter(train.is_valid())))
    span = options.span("loss") or options.span("label")
    loss = options.loss
    if loss is None and is_text(label.type) and classes > 2:
        loss = "cross_entropy"
    if loss == "bce" and classes > 2:
        raise DataError(
            f"bce tells two classes apart, and label `{label}` has {classes} in the training rows; "
            "say loss = 'cross_entropy'"
        )
    if loss == "cross_entropy" and label.type in ("FLOAT", "REAL", "DOUBLE"):
        raise QueryError(
            f"cross_entropy tells classes apart, and `{label}` is {label.type}; classes are text, "
            "boolean or whole numbers",
            span,
        )
    width = max(2, classes) if loss == "cross_entropy" else 1
    return infer_head(label, width, train, val, loss, span)


def _contents(features: Sequence[Feature], plan: Plan) -> list[Content]:
    """The output's columns of features that it has."""
    contents = dict(plan.contents)
    return [contents[f.name] for f in features]


def _matrix(
    features: Sequence[Feature],
    contents: Sequence[Content],
    maps: RowMaps,
    rows: Numbers | None,
) -> Floats:
    """What trees see of output rows (None: all). Shape (rows, numbers of all features)."""
    count = maps.counts[maps.plan.output] if rows is None else len(rows)
    out = np.empty((count, sum(f.width for f in features)))
    at = 0
    for feature, content in zip(features, contents, strict=True):
        values = maps.columns[maps.plan.output, content]
        if rows is not None:
            values = values.take(pa.array(rows))
        out[:, at : at + feature.width] = feature.numbers(values, content)
        at += feature.width
    return out


def _check_precision(head: Head, targets: Targets, label: Content) -> None:
    """Raise DataError where numbers to predict are no longer told apart in 32 bits."""
    if head.classes is not None:
        return
    with np.errstate(over="ignore"):
        lost = np.abs(targets.astype(np.float32).astype(np.float64) - targets).max()
    if not lost <= 0.01 * (targets.max() - targets.min()):
        raise DataError(
            f"LightGBM keeps labels in 32 bits, and `{label}` goes from {targets.min():g} to "
            f"{targets.max():g} in the training rows; scale it, or subtract what all rows share"
        )


def _is_constant(seen: Floats) -> bool:
    """Whether all rows are equal."""
    same = (seen == seen[0]) | (np.isnan(seen) & np.isnan(seen[0]))
    return bool(same.all())


def _library() -> ModuleType:
    try:
        return import_module("lightgbm")
    except (ImportError, OSError) as error:  # OSError: its OpenMP library is missing
        raise EngineError(
            f"head = 'gbdt' comes with an extra: pip install relann[gbdt] ({error})"
        ) from error
