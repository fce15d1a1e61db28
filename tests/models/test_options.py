"""Options of CREATE MODEL: what is accepted, and what every mistake is answered with."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from relann.errors import QueryError, Span
from relann.models.options import Options


@dataclass(frozen=True)
class Given:
    value: object
    name_span: Span
    span: Span


def given(**values: object) -> dict[str, Given]:
    """Options as a statement `name = value, …` would give them."""
    text = ", ".join(f"{n} = {v}" for n, v in values.items())
    found, at = {}, 0
    for name, value in values.items():
        at = text.index(f"{name} =", at)
        begin = at + len(name) + 3
        end = begin + len(str(value))
        found[name] = Given(value, Span(text, at, at + len(name)), Span(text, begin, end))
    return found


def test_options_have_defaults_and_remember_their_places() -> None:
    options = Options.parsed(given(label="y", lr=1, epochs=5))
    assert (options.label, options.lr, options.epochs, options.optimizer) == ("y", 1.0, 5, "adam")
    assert options.batch_size is None
    assert str(options.span("epochs")) == "line 1, column 29"
    assert options.span("seed") is None


def test_choices_are_case_insensitive_and_columns_are_not() -> None:
    options = Options.parsed(given(optimizer="AdamW", loss="MSE", metric="RMSE", label="Late"))
    assert (options.optimizer, options.loss, options.metric) == ("adamw", "mse", "rmse")
    assert options.label == "Late"


def test_options_survive_json() -> None:
    options = Options.parsed(given(label="y", clip=1.5, patience=3))
    again = Options.model_validate_json(options.model_dump_json())
    assert again.model_dump() == options.model_dump()


def test_names_that_mean_something_elsewhere_are_passed_over() -> None:
    assert Options.parsed(given(task="churn", label="y"), ("task",)).label == "y"


@pytest.mark.parametrize(
    ("values", "message", "caret"),
    [
        ({"epoch": 3}, "a model has no option `epoch`;.* Did you mean `epochs`?", "epoch"),
        ({"label": 3}, "`label` takes text, a name in quotes, not 3", "3"),
        ({"epochs": "ten"}, "`epochs` takes a whole number, not 'ten'", "ten"),
        ({"epochs": 2.5}, "`epochs` takes a whole number, not 2.5", "2.5"),
        ({"epochs": 0}, "`epochs` must be 1 or more, not 0", "0"),
        ({"epochs": True}, "`epochs` takes a whole number, not True", "True"),
        ({"lr": 0}, "`lr` must be above 0, not 0", "0"),
        ({"lr": -0.1}, "`lr` must be above 0, not -0.1", "-0.1"),
        ({"lr": "0.1"}, "`lr` takes a number, not '0.1'", "0.1"),
        ({"momentum": 1}, "`momentum` must be below 1, not 1", "1"),
        ({"weight_decay": -1}, "`weight_decay` must be 0 or more, not -1", "-1"),
        ({"train": "yes"}, "`train` takes true or false, not 'yes'", "yes"),
        ({"train": 1}, "`train` takes true or false, not 1", "1"),
        ({"optimizer": "adma"}, "`optimizer` is one of adam, .*not 'adma'.*`adam`", "adma"),
        ({"loss": 3}, "`loss` is one of cross_entropy, bce, mse, mae, huber, not 3", "3"),
        ({"metric": "auc"}, "`metric` is one of .* Did you mean `auroc`?", "auc"),
        ({"seed": -1}, "`seed` must be 0 or more, not -1", "-1"),
        ({"seed": 2**63}, "`seed` must be below", str(2**63)),
        ({"batch_size": 0}, "`batch_size` must be 1 or more", "0"),
        ({"label": ("a", "b")}, "`label` takes text", "('a', 'b')"),
        ({"momentum": 0.9}, "`momentum` is an option of sgd and rmsprop, not of adam", "0.9"),
    ],
)
def test_every_mistake_is_underlined(values: dict[str, object], message: str, caret: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        Options.parsed(given(**values))
    span = caught.value.span
    assert span.text[span.start : span.end] == caret


def test_null_is_a_default() -> None:
    assert Options.parsed(given(batch_size=None)).batch_size is None


@pytest.mark.parametrize("name", ["regime", "loss", "head", "metric", "provenance", "optimizer"])
def test_choices_are_named(name: str) -> None:
    with pytest.raises(QueryError, match=rf"`{name}` is one of"):
        Options.parsed(given(**{name: "nonsense"}))
