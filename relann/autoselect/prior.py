"""What past trials say of a space: which values of knobs to leave out, and where to begin."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt
from statistics import fmean, stdev

from relann.autoselect.space import Knob, Point, Template, Value
from relann.autoselect.trials import Trial
from relann.models.metrics import SMALLER_IS_BETTER

FEWEST = 5
"""On how many tasks a value must have been tried to be left out."""

Weights = Mapping[tuple[str, str], float]
"""How alike the task at hand a past one is, by (database, task)."""


def losses(trials: Sequence[Trial], template: str) -> dict[tuple[str, str], dict[str, float]]:
    """How much each point of a template lost on each task, as a share of its best point's metric.

    By test metrics: the tasks are past. Tasks with fewer than two points say nothing.
    """
    by_task: dict[tuple[str, str], dict[str, Trial]] = defaultdict(dict)
    for trial in trials:
        if trial.template == template and trial.test is not None:
            by_task[trial.database, trial.task][trial.knobs] = trial
    found = {}
    for task, points in by_task.items():
        if len(points) < 2:
            continue
        sign = -1.0 if next(iter(points.values())).metric in SMALLER_IS_BETTER else 1.0
        scores = {knobs: sign * (t.test or 0.0) for knobs, t in points.items()}
        best = max(scores.values())
        scale = abs(best) or 1.0
        found[task] = {knobs: (best - score) / scale for knobs, score in scores.items()}
    return found


def pruned(template: Template, trials: Sequence[Trial], weights: Weights) -> Template:
    """The template without the values of knobs that did worse on tasks like the one at hand.

    A value goes where it was tried on enough tasks and its loss, a mean over tasks weighted by how
    alike they are, is above that of the knob's best value by more than two standard errors of
    their difference.
    """
    lost = losses(trials, template.name)
    return replace(template, knobs=tuple(_pruned(k, lost, weights) for k in template.knobs))


def _pruned(
    knob: Knob, lost: Mapping[tuple[str, str], Mapping[str, float]], weights: Weights
) -> Knob:
    means: dict[Value, dict[tuple[str, str], float]] = defaultdict(dict)
    for task, points in lost.items():
        of_value: dict[Value, list[float]] = defaultdict(list)
        for knobs, loss in points.items():
            chosen = frozen(json.loads(knobs).get(knob.name))
            of_value[chosen].append(loss)
        for value, some in of_value.items():
            means[value][task] = fmean(some)
    tried = {v: m for v, m in means.items() if v in knob.values and len(m) >= FEWEST}
    if len(tried) < 2:
        return knob
    best = min(tried, key=lambda v: _weighted(tried[v], weights))
    worse = set()
    for value, found in tried.items():
        both = [t for t in found if t in tried[best]]
        if value == best or len(both) < FEWEST:
            continue
        apart = [found[t] - tried[best][t] for t in both]
        error = stdev(apart) / sqrt(len(apart))
        mean = _weighted(dict(zip(both, apart, strict=True)), weights)
        if mean > 2 * error:
            worse.add(value)
    return replace(knob, values=tuple(v for v in knob.values if v not in worse))


def promising(
    template: Template, trials: Sequence[Trial], weights: Weights, most: int
) -> list[Point]:
    """The points that lost least on tasks like the one at hand, the best first."""
    by_point: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for task, points in losses(trials, template.name).items():
        for knobs, loss in points.items():
            by_point[knobs][task] = loss
    often = [k for k, found in by_point.items() if len(found) >= FEWEST]
    order = sorted(often, key=lambda k: _weighted(by_point[k], weights))
    named = [{n: frozen(v) for n, v in json.loads(k).items()} for k in order[:most]]
    return [template.point(chosen) for chosen in named]


def _weighted(values: Mapping[tuple[str, str], float], weights: Weights) -> float:
    total = sum(weights.get(task, 1.0) for task in values)
    return sum(weights.get(task, 1.0) * value for task, value in values.items()) / total


def frozen(value: object) -> Value:
    """A knob's value as JSON has it, lists as tuples."""
    if isinstance(value, list):
        return tuple(frozen(v) for v in value)
    assert value is None or isinstance(value, str | int | float | bool)
    return value
