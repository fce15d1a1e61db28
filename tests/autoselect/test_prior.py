"""What past trials leave out of a space, and where they say to begin."""

from __future__ import annotations

from relann.autoselect.prior import FEWEST, promising, pruned
from relann.autoselect.space import Knob, Template
from relann.autoselect.trials import Trial
from tests.autoselect.trials import trial

TEMPLATE = Template(
    "sage", "messages", "FROM sage({arguments})",
    (Knob("layers", (2, 1, 3)), Knob("width", (64, 32))), {},
)  # fmt: skip


def past(tasks: int, good: int = 2, noise: float = 0.0) -> list[Trial]:
    """`layers = good` reaches .8 on every task, others .7; width makes no difference but noise."""
    found = []
    for number in range(tasks):
        for layers in (1, 2, 3):
            for width in (64, 32):
                point = TEMPLATE.point({"layers": layers, "width": width})
                test = 0.8 if layers == good else 0.7
                test += noise * ((number + layers + width) % 3 - 1)
                found.append(trial(point, database=f"d{number}", validation=0.5, test=test))
    return found


def test_a_value_that_does_worse_everywhere_goes() -> None:
    layers, width = pruned(TEMPLATE, past(FEWEST + 2, noise=0.01), {}).knobs
    assert layers.values == (2,)
    assert width.values == (64, 32)


def test_too_few_tasks_say_nothing() -> None:
    assert pruned(TEMPLATE, past(FEWEST - 1), {}) == TEMPLATE
    assert promising(TEMPLATE, past(FEWEST - 1), {}, 2) == []


def test_tasks_that_are_alike_count_more() -> None:
    """Half the tasks want one layer, half want three; the task at hand is like the latter."""
    one = [t for t in past(FEWEST, good=1)]
    three = [Trial(**{**vars(t), "database": f"e{t.database}"}) for t in past(FEWEST, good=3)]
    weights = {(t.database, t.task): 0.01 for t in one} | {(t.database, t.task): 1.0 for t in three}
    (best,) = promising(TEMPLATE, one + three, weights, 1)
    assert best.knobs["layers"] == 3


def test_errors_are_better_where_smaller() -> None:
    worse_first = [Trial(**{**vars(t), "metric": "mae"}) for t in past(FEWEST + 1, good=1)]
    assert promising(TEMPLATE, worse_first, {}, 1)[0].knobs["layers"] != 1
