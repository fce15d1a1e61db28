"""Programs of one task side by side: one table, one chart, and what the selector expected."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from relann.algebra.parse import statements
from relann.algebra.statements import CreateModel
from relann.autoselect.cases import relative_gain
from relann.autoselect.search import Found
from relann.autoselect.selector import Expected
from relann.autoselect.settings import Settings
from relann.autoselect.space import TRAINING, Point
from relann.autoselect.trials import METRICS, Trial, planned, ranked, run, score
from relann.bound_models import options_of
from relann.errors import DataError, EngineError, QueryError
from relann.lifecycle import Lifecycle
from relann.models.fitted import Fitted
from relann.models.metrics import SMALLER_IS_BETTER
from relann.models.tasks import Task
from relann.session import Session

_TREES = {"head": "gbdt"}
_NETWORK = {**TRAINING, "lr": 0.005}


@dataclass(frozen=True)
class Row:
    """One program: what it is called, its trial with the test metric, and how it came here.

    chosen  whether the selector's search chose it
    regret  what it loses to the best shown, as a share of the larger metric; None without a metric
    """

    name: str
    trial: Trial
    chosen: bool = False
    regret: float | None = None


@dataclass(frozen=True)
class Comparison:
    """All programs, in the order in which they were given, what was found behind them.

    `expected` is the gain of message passing that the selector expected, None where it was not
    asked; `reasons` are its sentences.
    """

    task: str
    metric: str
    regime: str
    rows: tuple[Row, ...]
    expected: Expected | None = None
    reasons: tuple[str, ...] = ()


def compare(
    session: Session, task_name: str, programs: Sequence[tuple[str, str]], auto: Settings | None
) -> Comparison:
    """Train programs, given as (name, text), on a task; test labels are read once, at the end.

    A text is a query or a whole CREATE MODEL statement, whose options count then; a query of
    learned columns is trained as a network, one of content columns alone with head = 'gbdt'. With
    `auto` the winner of a search is compared as well, and the best of the other family that the
    search tried. Nothing is kept but the search's trials. Raises QueryError for programs that are
    wrong and DataError where there is nothing to compare.
    """
    lifecycle = Lifecycle(session.connection, session.store)
    task = session.store.task(task_name)
    if task.kind not in METRICS:
        raise QueryError(f"what is compared has one label a seed, and `{task.name}` is a ranking")
    done: list[tuple[str, Trial, Fitted]] = []
    for name, text in programs:
        point = _point(lifecycle, task, name, text)
        trial, fitted = run(planned("", task, point, 0), point, task, lifecycle.fitted)
        if fitted is None:
            raise QueryError(f"{name}: {(trial.error or '').partition(': ')[2]}")
        done.append((name, trial, fitted))
    found = None if auto is None else lifecycle.search(auto, "m")
    if found is not None:
        done += _found(lifecycle, task, found)
    if not done:
        raise DataError("there is nothing to compare: give files of programs, or --auto")
    rows = [
        Row(name, replace(trial, test=score(fitted, "test")), name.startswith("auto"))
        for name, trial, fitted in done
    ]
    outlook = None if found is None else found.outlook
    return Comparison(
        task.name, METRICS[task.kind], task.regime, _with_regret(rows),
        None if outlook is None else outlook.expected,
        () if found is None else found.reasons,
    )  # fmt: skip


def _point(lifecycle: Lifecycle, task: Task, name: str, text: str) -> Point:
    """A program of a user's as a point: its own options, or those its query asks for."""
    whole = text.strip().rstrip(";")
    if whole[:6].upper() != "CREATE":
        whole = f"CREATE MODEL m AS {whole}"
    (statement,) = statements(whole)
    if not isinstance(statement, CreateModel):
        raise QueryError(f"{name} is neither a query nor CREATE MODEL … AS and a query")
    own = {o.name: o.value for o in statement.options if o.name not in ("task", "seed")}
    options = options_of(statement)
    body = statement.body.span.text[statement.body.span.start : statement.body.span.end]
    if own:
        learned = options.head is None
    else:  # its columns say what trains it
        learned = bool(lifecycle.program(statement, task.name).plan.values)
        own = dict(_NETWORK if learned else _TREES)
        if task.kind == "regression":
            own["loss"] = "mae"
    return Point("messages" if learned else "features", name, body, own, {"program": body})


def _found(lifecycle: Lifecycle, task: Task, found: Found) -> list[tuple[str, Trial, Fitted]]:
    """The search's winner, and the best validated trial of the other family."""
    winner = found.trial
    shown = [(f"auto: {winner.template}", winner, found.fitted)]
    others = ranked(t for t in found.trials if t.family != winner.family and t.error is None)
    if others:
        best = others[0]
        (statement,) = statements(best.program)
        assert isinstance(statement, CreateModel)
        shown.append((f"best of {best.family}: {best.template}", best,
                      lifecycle.fitted(statement)))  # fmt: skip
    return shown


def _with_regret(rows: Sequence[Row]) -> tuple[Row, ...]:
    smaller = rows[0].trial.metric in SMALLER_IS_BETTER
    known = [r.trial.test for r in rows if r.trial.test is not None]
    if not known:
        return tuple(rows)
    best = min(known) if smaller else max(known)
    return tuple(
        r if r.trial.test is None
        else replace(r, regret=abs(relative_gain(r.trial.test, best, smaller)))
        for r in rows
    )  # fmt: skip


HEADERS = (
    "program", "family", "validation", "test", "regret", "seconds", "memory",
)  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table as text, see HEADERS."""
    trial = row.trial

    def shown(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    name = f"{row.name} *" if row.chosen else row.name
    return (
        name, trial.family, shown(trial.validation, ".4f"), shown(trial.test, ".4f"),
        shown(row.regret, ".1%"), shown(trial.seconds, ".1f"),
        "–" if trial.mb is None else f"{trial.mb:,.0f} MB",
    )  # fmt: skip


def footer(found: Comparison) -> str:
    """What is to be known of the table, in sentences, and the winner's text."""
    better = "smaller" if found.metric in SMALLER_IS_BETTER else "larger"
    lines = [
        f"{found.metric}, {better} is better; regime {found.regime}; test labels were read once, "
        "after all training; regret is to the best shown",
        *(
            ["programs of the search are validated as they will be tested, on staler rows"]
            if any("validation = 'as_test'" in r.trial.program for r in found.rows)
            else []
        ),
        *found.reasons,
    ]
    for row in found.rows:
        if row.chosen:
            lines += ["* what the search chose:", "", row.trial.program]
    return "\n".join(lines)


def draw(found: Comparison, path: Path) -> None:
    """Write a chart: a page for .html, for other endings what matplotlib makes of them.

    Raises EngineError where matplotlib is needed and not installed, DataError for a path that
    cannot be written.
    """
    try:
        if path.suffix == ".html":
            path.write_text(_page(found), "utf-8")
        else:
            _figure(found, path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot write {path}: {error}") from error


def _page(found: Comparison) -> str:
    head = "".join(f"<th>{name}</th>" for name in HEADERS)
    longest = max((r.trial.test or 0.0) for r in found.rows) or 1.0
    body = ""
    for row in found.rows:
        values = "".join(f"<td>{html.escape(value)}</td>" for value in cells(row))
        long = 100 * (row.trial.test or 0.0) / longest
        bar = f'<td class="bar"><div style="width:{long:.1f}%"></div></td>'
        body += f"<tr>{values}{bar}</tr>\n"
    texts = "".join(
        f"<h2>{html.escape(r.name)}</h2><pre>{html.escape(r.trial.program)}</pre>"
        for r in found.rows
    )
    title = html.escape(f"{found.task}: {found.metric} of {len(found.rows)} programs")
    return (
        f"<!doctype html><meta charset='utf-8'><title>{title}</title>"
        "<style>body{font:15px sans-serif;margin:2em;max-width:70em}td,th{padding:.3em .8em;"
        "text-align:left}.bar{width:20em}.bar div{background:#4878a8;height:1em}"
        "pre{background:#f4f4f4;padding:1em;overflow:auto}</style>"
        f"<h1>{title}</h1><table><tr>{head}<th>test</th></tr>\n{body}</table>"
        f"<p>{html.escape(footer(found).split('* what')[0])}</p>{texts}\n"
    )


def _figure(found: Comparison, path: Path) -> None:
    try:
        figures = import_module("matplotlib.figure")
    except ImportError as error:
        raise EngineError(
            "pictures need matplotlib, which is not installed: pip install matplotlib. "
            "A chart that ends in .html needs nothing"
        ) from error
    figure = figures.Figure(figsize=(8, 0.6 * len(found.rows) + 1.4), layout="constrained")
    axes = figure.subplots()
    places = range(len(found.rows))
    for offset, part, colour in ((-0.18, "validation", "#a8c4dc"), (0.18, "test", "#2f5d8a")):
        lengths = [getattr(r.trial, part) or 0.0 for r in found.rows]
        bars = axes.barh([p + offset for p in places], lengths, 0.34, label=part, color=colour)
        axes.bar_label(bars, fmt="%.4f", padding=3)
    axes.set_yticks(list(places), [r.name for r in found.rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"{found.metric} of {found.task} ({found.regime})")
    axes.margins(x=0.15)
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=150)
