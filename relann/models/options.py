"""The options of CREATE MODEL, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError
from pydantic_core import ErrorDetails

from relann.errors import QueryError, Span, did_you_mean, listing
from relann.models.memory import parsed_limit

Loss = Literal["cross_entropy", "bce", "mse", "mae", "huber"]
Optimizer = Literal["adam", "adamw", "sgd", "rmsprop", "adagrad"]
Kind = Literal["gbdt"]
Provenance = Literal["learned"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]
Metric = Literal["loss", "accuracy", "auroc", "ap", "f1", "log_loss", "mae", "rmse", "r2"]

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, lt=1)]
_Count = Annotated[int, Field(ge=1)]
_Part = Annotated[float, Field(gt=0, le=1)]


def _several(value: object) -> object:
    """One name or a list of them as a tuple of names."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _size(value: object) -> object:
    """The text of a size as it is; ValueError for what is none."""
    if isinstance(value, str):
        parsed_limit(value)
    return value


_Size = Annotated[str, BeforeValidator(_size)]
_Names = Annotated[tuple[str, ...], BeforeValidator(_several)]

_OF_NETWORKS = {
    "optimizer": "",
    "weight_decay": "l2",
    "momentum": "",
    "clip": "",
    "epochs": "rounds",
    "batch_size": "",
    "memory_limit": "",
    "finetune": "",
    "encoder_lr": "",
    "provenance": "",
    "width": "",
    "device": "",
    "precision": "",
    "deterministic": "",
}
_OF_TREES = {
    "rounds": "epochs",
    "leaves": "",
    "min_rows": "",
    "subsample": "",
    "columns": "",
    "l2": "weight_decay",
    "exclude": "",
}
"""Options of one head only, and what the other head has in their place."""

_LR_OF_TREES = 0.05


class Given(Protocol):
    """An option as it stands in a statement: its value, and where name and value are."""

    @property
    def value(self) -> object: ...

    @property
    def name_span(self) -> Span: ...

    @property
    def span(self) -> Span: ...


class Options(BaseModel):
    """How a model is trained.

    task          what to predict: seeds, labels, splits; the query is evaluated as of each seed
    regime        of a task: `frozen` or `rolling` (None: as the task has it)
    validation    of a task in regime `frozen`: 'as_test' shows validation seeds no row since
                  validation began, as test seeds see none since test began; 'fresh' (the default)
                  shows them all until their anchors, as RelBench does
    label         the output's content column to predict; needed for training without a task
    split         the content column that says 'train', 'val' or 'test' (None: by a hash of the row)
    loss          None: by the label's type and the prediction's width
    optimizer     lr, weight_decay and momentum are its own, `clip` bounds the gradient's norm
    epochs        passes over the training rows; batch_size rows each step (None: all)
    memory_limit  of a task, for its row maps in batches: '2GB', '1.5 GiB' or '30%' of the memory
                  that is available (None: half of it); what is larger is built in chunks of seeds
    patience      epochs without a better validation metric after which training stops
    metric        which validation metric is best (None: accuracy, auroc, mae or rmse by the loss)
    provenance    'learned': the query is plain SQL, its tuples have embeddings of this `width`
    finetune      whether pretrained text encoders are trained as well; encoder_lr is their own lr
    device        'cpu', 'cuda' or 'auto', where it is trained (None: where the session says)
    precision     'bfloat16': products in half the bits, weights and sums in float32
    deterministic the same bits each time on a GPU as well
    head          'gbdt': boosted trees over content columns; None: the query's own network

    Of trees only, which have an lr of 0.05 unless given:

    rounds        trees, or with several classes trees for each class
    leaves        of a tree, at most; each has at least min_rows training rows
    subsample     the share of rows each tree sees; columns is the share of columns
    l2            what is added to the denominator of a leaf's value
    exclude       output columns that are no features
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    task: str | None = None
    regime: Literal["frozen", "rolling"] | None = None
    validation: Literal["fresh", "as_test"] | None = None
    label: str | None = None
    split: str | None = None
    train: bool = True
    loss: Loss | None = None
    optimizer: Optimizer = "adam"
    lr: _Positive = 0.01
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    momentum: _Share = 0.0
    clip: _Positive | None = None
    epochs: _Count = 100
    batch_size: _Count | None = None
    memory_limit: _Size | None = None
    patience: _Count | None = None
    metric: Metric | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    provenance: Provenance | None = None
    width: _Count = 64
    finetune: bool = False
    encoder_lr: _Positive = 2e-5
    device: Device | None = None
    precision: Precision = "float32"
    deterministic: bool = False
    head: Kind | None = None
    rounds: _Count = 500
    leaves: Annotated[int, Field(ge=2, le=131072)] = 31
    min_rows: _Count = 20
    subsample: _Part = 1.0
    columns: _Part = 1.0
    l2: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    exclude: _Names = ()

    _spans: dict[str, Span] = PrivateAttr(default_factory=dict)

    @classmethod
    def parsed(cls, given: Mapping[str, Given], others: tuple[str, ...] = ()) -> Options:
        """The options of a statement.

        `others` are names that mean something elsewhere (`task`); they are passed over. Raises
        QueryError, at the option's place, for unknown names and values of a wrong type or range.
        """
        own = {name: option for name, option in given.items() if name not in others}
        for name, option in own.items():
            if name not in cls.model_fields:
                known = [*cls.model_fields, *others]
                raise QueryError(
                    f"a model has no option `{name}`; there are {listing(known, 30)}."
                    + did_you_mean(name, known),
                    option.name_span,
                )
        values = {name: _folded(name, option.value) for name, option in own.items()}
        if values.get("head") == "gbdt":
            values.setdefault("lr", _LR_OF_TREES)
        try:
            options = cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise QueryError(_message(name, first), own[name].span) from None
        options._spans.update({name: option.span for name, option in own.items()})
        _check_head(options, own)
        if options.momentum and options.optimizer not in ("sgd", "rmsprop"):
            raise QueryError(
                f"`momentum` is an option of sgd and rmsprop, not of {options.optimizer}",
                options.span("momentum"),
            )
        for name in ("label", "split"):
            if options.task is not None and name in values:
                raise QueryError(
                    f"the task says what the {name} is; leave `{name}` out", own[name].name_span
                )
        if options.memory_limit is not None and None in (options.task, options.batch_size):
            raise QueryError(
                "`memory_limit` bounds the row maps of a task's model that is trained in batches: "
                "OPTIONS (task = …, batch_size = …)",
                options.span("memory_limit"),
            )
        if options.regime is not None and options.task is None:
            raise QueryError(
                "`regime` says what a task may see; there is no task: OPTIONS (task = …)",
                options.span("regime"),
            )
        if options.validation is not None and options.task is None:
            raise QueryError(
                "`validation` says what validation seeds of a task see; there is no task: "
                "OPTIONS (task = …)",
                options.span("validation"),
            )
        if options.provenance is not None and options.task is not None:
            raise QueryError(
                "learned provenance knows no time, and the query of a task is evaluated as of its "
                "seeds: write the network out, or predict a `label` without a task",
                options.span("provenance"),
            )
        if "encoder_lr" in values and not options.finetune:
            raise QueryError(
                "`encoder_lr` is for text encoders that are trained: OPTIONS (finetune = true)",
                options.span("encoder_lr"),
            )
        if "width" in values and options.provenance is None:
            raise QueryError(
                "`width` is that of learned provenance: OPTIONS (provenance = 'learned')",
                options.span("width"),
            )
        return options

    def for_task(self, label: str, split: str) -> Options:
        """The same with the label and the split of a task."""
        made = self.model_copy(update={"label": label, "split": split})
        made._spans.update(self._spans)
        return made

    def on(self, device: str) -> Options:
        """The same on a device."""
        made = self.model_copy(update={"device": device})
        made._spans.update({n: s for n, s in self._spans.items() if n != "device"})
        return made

    @property
    def hidden(self) -> tuple[str, ...]:
        """Output columns that are no input: label and split."""
        return tuple(name for name in (self.label, self.split) if name is not None)

    def span(self, name: str) -> Span | None:
        """Where the statement gives the option's value; None where it does not."""
        return self._spans.get(name)


def _check_head(options: Options, given: Mapping[str, Given]) -> None:
    """Raise QueryError for the first option that the head does not have."""
    trees = options.head == "gbdt"
    for name, option in given.items():
        others = _OF_NETWORKS if trees else _OF_TREES
        if name in others:
            have = "trees have" if trees else "a network has"
            instead = f"; {have} `{others[name]}`" if others[name] else ""
            of = "is for networks, not for head = 'gbdt'" if trees else "is for head = 'gbdt'"
            raise QueryError(f"`{name}` {of}{instead}", option.name_span)


def _folded(name: str, value: object) -> object:
    """Choices are case-insensitive, names of columns are as written."""
    choice = name in (
        "loss",
        "validation",
        "optimizer",
        "metric",
        "head",
        "regime",
        "provenance",
        "device",
        "precision",
    )
    return value.lower() if choice and isinstance(value, str) else value


_RANGES = {
    "greater_than": "above {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "below {lt}",
    "less_than_equal": "{le} or less",
    "finite_number": "finite",
}
_TYPES = {
    "string_type": "text, a name in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "names in a list, ['a', 'b']",
}


def _message(name: str, error: ErrorDetails) -> str:
    given: Any = error["input"]
    shown = f"'{given}'" if isinstance(given, str) else str(given)
    if error["type"] == "literal_error":
        choices = _choices(name)
        hint = did_you_mean(given, choices) if isinstance(given, str) else ""
        return f"`{name}` is one of {listing(choices)}, not {shown}.{hint}"
    if error["type"] in _RANGES:
        limits = {k: int(v) if v == int(v) else v for k, v in error.get("ctx", {}).items()}
        bound = _RANGES[error["type"]].format(**limits)
        return f"`{name}` must be {bound}, not {shown}"
    if name == "memory_limit":
        return (
            f"`memory_limit` is a size such as '2GB' or '1.5 GiB', or a share, '30%', not {shown}"
        )
    wanted = _TYPES.get(error["type"], error["msg"])
    return f"`{name}` takes {wanted}, not {shown}"


def _choices(name: str) -> tuple[str, ...]:
    found = get_args(Options.model_fields[name].annotation)
    inner = [get_args(part) for part in found if get_args(part)]  # those of `Literal[…] | None`
    return inner[0] if inner else found
