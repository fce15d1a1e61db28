"""The search for a model of a task: signals, the selector's word, trials, a choice."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from relann.autoselect.bank import Bank, cases_of_bank, signal_rows
from relann.autoselect.cases import signals_of_rows
from relann.autoselect.ground import Signal
from relann.autoselect.guard import CRITERIA, Vote, finalists, vote
from relann.autoselect.judge import JudgeError, asked
from relann.autoselect.prior import Weights, frozen, promising, pruned
from relann.autoselect.selector import Expected, Selector
from relann.autoselect.settings import Settings
from relann.autoselect.space import TEMPLATES, TRAINING, Family, Point, Template
from relann.autoselect.trials import METRICS, Trial, examined, planned, run
from relann.errors import DataError, EngineError
from relann.models.fitted import Fitted, Trainer
from relann.models.learning import Epoch
from relann.models.metrics import SMALLER_IS_BETTER
from relann.models.tasks import Task

log = logging.getLogger("relann")

TEMPLATE_NAMES = [t.name for t in TEMPLATES]

REPEATS = 30
"""How often in a row the sampler may propose what has been tried before the search ends."""

_PRUNED = "stopped early, others were better by then"


class Kept(Protocol):
    """Where trials outlive a search that is interrupted."""

    def trials(self) -> Sequence[Trial]:
        """Those of this task, on the data as they are."""

    def add(self, trial: Trial) -> None:
        """Keep one more."""


@dataclass(frozen=True)
class Outlook:
    """What the selector says before anything is trained.

    expected  of the gain of message passing; None where there is no bank or no signal
    family    the family to look in; None: both
    reasons   why, in sentences
    weights   how alike the bank's tasks are
    """

    expected: Expected | None
    family: Family | None
    reasons: tuple[str, ...]
    weights: Weights


@dataclass(frozen=True)
class Found:
    """What a search came to.

    fitted    the chosen model, `trial` its trial
    trials    all of them, in order, those of earlier searches of the task first
    finalists those that were near-equal by validation, the best first; `vote` on them
    reasons   why the choice is what it is, in sentences
    """

    fitted: Fitted
    trial: Trial
    trials: tuple[Trial, ...]
    finalists: tuple[Trial, ...]
    vote: Vote
    outlook: Outlook
    reasons: tuple[str, ...]


def outlook(task: Task, found: Sequence[Signal], bank: Bank | None) -> Outlook:
    """What the bank says of a task with these signals."""
    if bank is None:
        return Outlook(None, None, ("there is no bank to learn from: both families are tried",), {})
    try:
        selector = Selector.fit(cases_of_bank(bank))
    except DataError as error:
        return Outlook(None, None, (f"both families are tried: {error}",), {})
    signals = signals_of_rows(signal_rows("", task.name, found))
    expected = selector.predict(signals)
    weights = {(c.database, c.task): w for c, w in selector.likeness(signals)}
    return Outlook(expected, expected.choice, tuple(selector.reasons(signals)), weights)


class Search:
    """One search; `run` gives what it found."""

    def __init__(
        self,
        task: Task,
        settings: Settings,
        train: Trainer,
        kept: Kept,
        outlook: Outlook,
        bank: Bank | None,
        name: str = "m",
        show: Callable[[str], None] = log.info,
        deadline: float | None = None,
    ) -> None:
        self.task, self.settings, self.train, self.kept = task, settings, train, kept
        self.outlook, self.name, self.show = outlook, name, show
        self.deadline = deadline or time.perf_counter() + settings.seconds
        self.optuna = _library()
        past = () if bank is None else [t for t in bank.trials if t.error is None]
        weights = outlook.weights
        self.templates = {t.name: pruned(_as_tested(t, task), past, weights) for t in TEMPLATES}
        self.begin = self._begin(past)
        self.smaller = METRICS[task.kind] in SMALLER_IS_BETTER
        sampler = (
            self.optuna.samplers.RandomSampler(seed=settings.seed)
            if settings.sampler == "random"
            else self.optuna.samplers.TPESampler(seed=settings.seed, n_startup_trials=6)
        )
        self.study = self.optuna.create_study(
            # Hyperband draws a trial's bracket from the study's name, which is random otherwise
            study_name=task.name,
            direction="minimize" if self.smaller else "maximize",
            sampler=sampler,
            pruner=self.optuna.pruners.HyperbandPruner(1, TRAINING["epochs"], 3),
        )
        self.done: dict[str, Trial] = {}
        self.fitted: dict[str, Fitted] = {}
        self.trials: list[Trial] = []
        self.ran = 0

    # -- the search ------------------------------------------------------------------------------

    def run(self) -> Found:
        """Train until the budget is spent, then choose.

        Raises DataError where no program could be trained at all. An interrupt goes through; what
        was tried is kept then, and the next search goes on from there.
        """
        for trial in self.kept.trials():
            self._remember(trial)
        if self.trials:
            self.show(f"{len(self.trials)} trials of an earlier search are kept and count")
        for point in self.begin:
            if self._over():
                break
            self._try(point, None)
        repeats = 0
        while not self._over() and repeats < REPEATS:
            asked_for = self.study.ask()
            point = self._proposed(asked_for)
            known = self.done.get(point.hash)
            if known is not None:
                repeats += 1
                self._tell(asked_for, known)
                continue
            repeats = 0
            self._try(point, asked_for)
        return self._chosen()

    def _over(self) -> bool:
        if self.settings.trials is not None and self.ran >= self.settings.trials:
            return True
        return time.perf_counter() >= self.deadline and bool(self.ran or self.done)

    def _begin(self, past: Sequence[Trial]) -> list[Point]:
        """Where to begin: what did best on tasks like this one, and a default of the other family.

        The other family's default is a check of the selector that costs one trial.
        """
        first: list[Point] = []
        rest: list[Point] = []
        for template in self._in_order():
            known = promising(template, past, self.outlook.weights, 2)
            points = known or [template.default()]
            if not any(p.family == template.family for p in first):
                first.append(points[0])
                rest += points[1:]
            elif self.outlook.family in (None, template.family):
                rest.append(points[0])
        return [*first, *rest]

    def _in_order(self) -> list[Template]:
        """Templates of the selector's family first."""
        wanted = self.outlook.family
        return sorted(self.templates.values(), key=lambda t: wanted not in (None, t.family))

    def _names(self) -> list[str]:
        """Templates the sampler may draw from: those of families that are still in question.

        A family that the selector is against stays in as long as its best trial is the best.
        """
        wanted = self.outlook.family
        best = self._best()
        families = {wanted, best.family if best is not None else wanted}
        return [t.name for t in self.templates.values() if None in families or t.family in families]

    def _proposed(self, asked_for: Any) -> Point:
        name = asked_for.suggest_categorical("template", TEMPLATE_NAMES)
        allowed = self._names()
        if name not in allowed:
            name = allowed[TEMPLATE_NAMES.index(name) % len(allowed)]
        template = self.templates[name]
        chosen = {
            knob.name: knob.values[
                asked_for.suggest_categorical(f"{name}.{knob.name}", list(range(len(knob.values))))
            ]
            for knob in template.knobs
        }
        return template.point(chosen)

    # -- one trial -------------------------------------------------------------------------------

    def _try(self, point: Point, asked_for: Any) -> None:
        if point.hash in self.done:
            return
        trial = planned("", self.task, point, self.settings.seed)
        pruned_early = False

        def watch(epoch: Epoch) -> bool:
            nonlocal pruned_early
            if asked_for is not None and point.options.get("head") is None:
                if epoch.validation is not None:
                    asked_for.report(epoch.validation, epoch.epoch)
                pruned_early = bool(asked_for.should_prune())
            return pruned_early or time.perf_counter() >= self.deadline

        trial, fitted = run(trial, point, self.task, self.train, watch, self.name)
        if pruned_early:
            trial = replace(trial, error=_PRUNED)
        self.ran += 1
        self.kept.add(trial)
        self._remember(trial, asked_for)
        if fitted is not None and not pruned_early:
            self._hold(point.hash, fitted)
        left = max(0.0, self.deadline - time.perf_counter())
        self.show(f"trial {self.ran}: {told(trial)}; {left:.0f} s left")

    def _hold(self, key: str, fitted: Fitted) -> None:
        """Keep the networks that may become finalists, and no others: they take memory."""
        self.fitted[key] = fitted
        best = {t.point for t in finalists(self.trials, self.settings.finalists)}
        self.fitted = {k: f for k, f in self.fitted.items() if k in best}

    def _remember(self, trial: Trial, asked_for: Any = None) -> None:
        self.trials.append(trial)
        self.done[trial.point] = trial
        if asked_for is not None:
            self._tell(asked_for, trial)
            return
        parameters = self._parameters(trial)
        if parameters is not None and trial.validation is not None and trial.error is None:
            values, kinds = parameters
            self.study.add_trial(
                self.optuna.trial.create_trial(
                    params=values, distributions=kinds, value=trial.validation
                )
            )

    def _tell(self, asked_for: Any, trial: Trial) -> None:
        states = self.optuna.trial.TrialState
        if trial.error == _PRUNED:
            self.study.tell(asked_for, state=states.PRUNED)
        elif trial.validation is None or trial.error is not None:
            self.study.tell(asked_for, state=states.FAIL)
        else:
            self.study.tell(asked_for, trial.validation)

    def _parameters(self, trial: Trial) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """A trial as the sampler would have proposed it; None if the space has it no more."""
        template = self.templates.get(trial.template)
        if template is None:
            return None
        kind = self.optuna.distributions.CategoricalDistribution
        values: dict[str, Any] = {"template": trial.template}
        kinds: dict[str, Any] = {"template": kind(TEMPLATE_NAMES)}
        knobs = json.loads(trial.knobs)
        for knob in template.knobs:
            places = [i for i, v in enumerate(knob.values) if v == frozen(knobs.get(knob.name))]
            if not places:
                return None
            name = f"{trial.template}.{knob.name}"
            values[name] = places[0]
            kinds[name] = kind(list(range(len(knob.values))))
        return values, kinds

    def _best(self) -> Trial | None:
        found = finalists(self.trials, 1)
        return found[0] if found else None

    # -- the choice ------------------------------------------------------------------------------

    def _chosen(self) -> Found:
        near = finalists(self.trials, self.settings.finalists if self.settings.guard else 1)
        if not near:
            errors = [t.error for t in self.trials if t.error]
            raise DataError(
                f"no program could be trained for task `{self.task.name}`"
                + (f"; the last one: {errors[-1]}" if errors else "")
            )
        models = [self._model(t) for t in near]
        if len(near) > 1:
            near = [examined(t, f, self.task) for t, f in zip(near, models, strict=True)]
        decided = vote(near)
        choice, why = decided.choice, self._why(near, decided)
        if self.settings.judge is not None and len(near) > 1:
            choice, why = self._judged(near, decided)
        return Found(
            models[choice], near[choice], tuple(self.trials), tuple(near), decided, self.outlook,
            (*self.outlook.reasons, why),
        )  # fmt: skip

    def _model(self, trial: Trial) -> Fitted:
        """A trial's model, trained again if it is of an earlier search."""
        if trial.point in self.fitted:
            return self.fitted[trial.point]
        chosen = {name: frozen(v) for name, v in json.loads(trial.knobs).items()}
        (template,) = [t for t in TEMPLATES if t.name == trial.template]
        point = _as_tested(template, self.task).point(chosen)
        self.show(f"training {trial.template} of an earlier search again")
        return self.train(point.parsed(self.name, self.task.name, trial.seed))

    def _why(self, near: Sequence[Trial], decided: Vote) -> str:
        if len(near) == 1:
            return "one program was better by validation than all others"
        chosen = near[decided.choice]
        return (
            f"of {len(near)} programs that are near-equal by validation {chosen.template} has the "
            f"best mean rank ({decided.ranks[decided.choice]:.2f}) by {', '.join(decided.criteria)}"
        )

    def _judged(self, near: Sequence[Trial], decided: Vote) -> tuple[int, str]:
        assert self.settings.judge is not None
        shown = [
            {n: getattr(t, n) for n in ("template", "family", "knobs", *CRITERIA, "curvature")}
            for t in near
        ]
        about: dict[str, object] = {"kind": self.task.kind, "metric": near[0].metric,
                                    "regime": self.task.regime,
                                    "training_seeds": near[0].seeds}  # fmt: skip
        try:
            choice, why = asked(self.settings.judge, self.settings.judge_model, shown, about)
        except JudgeError as error:
            return decided.choice, f"{self._why(near, decided)} (the judge did not choose: {error})"
        return choice, f"the judge chose {near[choice].template}: {why}"


def _as_tested(template: Template, task: Task) -> Template:
    """A template for a task, validated as it will be tested.

    Over the bank's tasks in regime frozen that loses a third less than validation with fresh rows
    does, which test seeds do not have (`python -m benchmarks.tuning --regime frozen`).
    """
    own = template.for_task(task)
    if not task.validates_fresh:
        return own
    return replace(own, fixed={**own.fixed, "validation": "as_test"})


def told(trial: Trial) -> str:
    """A trial in a few words."""
    if trial.validation is None:
        return f"{trial.template} failed, {trial.error}"
    score = f"{trial.template} validation {trial.metric} {trial.validation:.4f}"
    return score if trial.error is None else f"{score}, {trial.error}"


def _library() -> ModuleType:
    try:
        library = import_module("optuna")
    except ImportError as error:
        raise EngineError(
            "the search for a model needs Optuna, which is not installed: "
            "pip install 'relann[auto]'"
        ) from error
    library.logging.set_verbosity(library.logging.WARNING)
    return library
