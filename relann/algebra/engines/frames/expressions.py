"""Scalar expressions over columns, with SQL's NULLs and the database's types.

Where a value could be another one than the database gives (a whole number out of range, a division
by zero, a character that is not ASCII in upper()), `Refused` is raised, and the database computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from sqlglot import exp

from relann.algebra.engines.frames import calendar
from relann.algebra.engines.frames.library import Array, Library, Refused
from relann.algebra.engines.frames.vectors import (
    DAY,
    WHOLE,
    Vector,
    both,
    constant,
    expanded,
    kind_of,
    nothing,
)
from relann.algebra.engines.interpreter import scalar
from relann.algebra.engines.interpreter.casts import base_type, cast
from relann.algebra.engines.interpreter.values import Interval
from relann.errors import DataError, EngineError

Known = Mapping[int, Vector]


class Expressions:
    """Expressions over the rows of some columns.

    `known` holds values of sub-expressions by identity: of aggregates and window functions.
    """

    def __init__(
        self,
        library: Library,
        columns: Mapping[str, Vector],
        count: int,
        known: Known | None = None,
    ) -> None:
        self.library = library
        self.columns = columns
        self.count = count
        self.known = known or {}

    def typed(self, node: exp.Expr, sql_type: str) -> Vector:
        """An expression's value for each row, as a column of the type."""
        return self.converted(self.value(node), sql_type)

    def truth(self, node: exp.Expr) -> Array:
        """Where a condition is true: neither false nor NULL."""
        return self.is_true(self.as_truth(self.value(node)))

    def value(self, node: exp.Expr) -> Vector:
        """An expression's value for each row; Refused for what is not understood."""
        if id(node) in self.known:
            return self.known[id(node)]
        if isinstance(node, exp.Column):
            return self.columns[node.name]
        if isinstance(node, exp.Paren):
            return self.value(node.this)
        if not any(isinstance(n, _VARYING) or id(n) in self.known for n in node.walk()):
            return constant(self.library, folded(node), self.count)
        if type(node) in _OPERATORS:
            _check(node)
            return _OPERATORS[type(node)](self, node)
        name = node.name.lower() if isinstance(node, exp.Anonymous) else ""
        if name in _NAMED:
            return _NAMED[name](self, *(self.value(a) for a in node.expressions))
        if name in ("date_part", "datepart") and len(node.expressions) == 2:
            return self.time_part(str(folded(node.expressions[0])), node.expressions[1])
        if name in calendar.PARTS and len(node.expressions) == 1:
            return self.time_part(name, node.expressions[0])
        raise Refused(scalar.described(node))

    # -- kinds ------------------------------------------------------------------------------------

    @property
    def arrays(self) -> Any:
        """The library's module of arrays."""
        return self.library.arrays

    def filled(self, vector: Vector, value: Any) -> Array:
        """Values, another one in the rows that are NULL."""
        if vector.valid is None:
            return vector.values
        return self.arrays.where(vector.valid, vector.values, value).astype(vector.values.dtype)

    def texts(self, vector: Vector) -> Any:
        """Texts, one for each row."""
        if vector.kind != "text":
            raise Refused(f"a text function of {vector.type}")
        return expanded(self.library, vector, self.count)

    def micros(self, vector: Vector) -> Array:
        """A date or time as microseconds since 1970."""
        if vector.kind not in ("day", "moment"):
            raise Refused(f"a time function of {vector.type}")
        return vector.values * DAY if vector.kind == "day" else vector.values

    def is_true(self, vector: Vector) -> Array:
        """Where a truth value is true."""
        return vector.values if vector.valid is None else vector.values & vector.valid

    def as_truth(self, vector: Vector) -> Vector:
        """A value as a condition."""
        if vector.kind == "truth":
            return vector
        if vector.kind == "null":
            return nothing(self.library, "truth", "BOOLEAN", self.count)
        return self.converted(vector, "BOOLEAN")

    def converted(self, vector: Vector, sql_type: str) -> Vector:
        """A column as another type, as CAST has it."""
        name, _ = base_type(sql_type)
        kind = kind_of(sql_type)
        if vector.kind == "other" or kind == "other":
            if vector.kind == "other" and vector.type == sql_type:
                return vector
            if vector.kind == "null":
                return nothing(self.library, kind, sql_type, self.count)
            raise Refused(f"a cast from {vector.type} to {sql_type}")
        if vector.kind == "null":
            return nothing(self.library, kind, sql_type, self.count)
        if kind != vector.kind or name != base_type(vector.type)[0]:
            made = replace(vector, values=self._cast(vector, kind, name), kind=kind, type=name)
            return replace(made, constant=False)
        return vector

    def _cast(self, vector: Vector, kind: str, name: str) -> Any:
        arrays, values, of = self.arrays, vector.values, vector.kind
        if kind == "whole" and of in ("whole", "truth", "real"):
            if of == "real":
                if vector.type == "DECIMAL":
                    raise Refused("a DECIMAL cast to a whole number")
                values = self.filled(vector, 0).astype(np.float64)
                if not bool((arrays.abs(values) < 2.0**62).all()):
                    raise Refused("a number out of the range of whole numbers")
                values = arrays.rint(values)
            values = values.astype(np.int64)
            self._check_range(replace(vector, values=values), name)
            return values
        if kind == "real" and of in ("whole", "truth", "real"):
            made = values.astype(np.float32 if name == "FLOAT" else np.float64)
            if name == "FLOAT" and values.dtype == np.float64:
                lost = arrays.isinf(made) & ~arrays.isinf(values)
                if bool(lost.any()):
                    raise Refused("a number out of the range of FLOAT")
            return made
        if kind == "truth" and of in ("whole", "real"):
            return values != 0
        if kind == "day" and of == "moment":
            return values // DAY
        if kind == "moment" and of == "day":
            return values * DAY
        if kind == "text" and of == "whole":
            return self.library.series(values).astype("str")
        if kind == "text" and of == "truth":
            found = self.library.texts(_TRUTHS)
            return found.take(values.astype(np.int64)).reset_index(drop=True)
        raise Refused(f"a cast from {vector.type} to {name}")

    def _check_range(self, vector: Vector, name: str) -> None:
        bits = WHOLE[name]
        if bits == 64:
            return
        unsigned = name.startswith("U")
        low, high = (0, 2**bits) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1))
        values = self.filled(vector, 0)
        if not bool(((values >= low) & (values < high)).all()):
            raise Refused(f"a whole number out of the range of {name}")

    def together(self, vectors: Sequence[Vector]) -> list[Vector]:
        """Columns as ones of a common type: branches of a CASE, or sides of a comparison."""
        kinds = {v.kind for v in vectors} - {"null"}
        if not kinds:
            return list(vectors)
        moments = [self._moment_met(v, kinds) for v in vectors]
        kinds = {v.kind for v in moments} - {"null"}
        kind, sql_type = self._common(kinds, [v for v in moments if v.kind != "null"])
        out = []
        for vector in moments:
            if vector.kind == "null":
                out.append(nothing(self.library, kind, sql_type, self.count))
            elif kind == "real":
                real = np.float32 if sql_type == "FLOAT" else np.float64
                values = vector.values.astype(real)
                out.append(replace(vector, kind=kind, type=sql_type, values=values))
            elif kind == "moment":
                out.append(replace(vector, kind=kind, type=sql_type, values=self.micros(vector)))
            else:
                out.append(replace(vector, type=sql_type))
        return out

    def _moment_met(self, vector: Vector, kinds: set[str]) -> Vector:
        """A constant text that meets times is one."""
        times = kinds & {"day", "moment"}
        if not times or not isinstance(vector.values, str):
            return vector
        sql_type = "TIMESTAMP" if "moment" in times else "DATE"
        try:
            return constant(self.library, cast(vector.values, sql_type), self.count)
        except DataError as error:
            raise Refused(str(error)) from None

    def _common(self, kinds: set[str], vectors: Sequence[Vector]) -> tuple[str, str]:
        types = {v.type for v in vectors}
        if kinds <= {"whole", "real"}:
            if kinds == {"whole"}:
                return "whole", widest(vectors)
            if "DOUBLE" in types:
                return "real", "DOUBLE"
            if "FLOAT" in types:
                return "real", "FLOAT"
            if types == {"DECIMAL"}:
                return "real", "DECIMAL"
            raise Refused("whole numbers and DECIMALs together")
        if kinds == {"day", "moment"}:
            return "moment", "TIMESTAMP"
        if len(kinds) == 1 and len(types) == 1 and kinds != {"other"}:
            return next(iter(kinds)), next(iter(types))
        raise Refused(f"{' and '.join(sorted(types))} together")

    def compared(self, a: Vector, b: Vector) -> tuple[Vector, Vector]:
        """Two columns as ones that compare; DECIMAL constants beside whole numbers too."""
        if {a.kind, b.kind} == {"whole", "real"} and "DECIMAL" in (a.type, b.type):
            whole = a if a.kind == "whole" else b
            if not bool((self.arrays.abs(self.filled(whole, 0)) < 2**52).all()):
                raise Refused("whole numbers too large for a comparison with a DECIMAL")
            return (
                replace(a, kind="real", values=a.values.astype(np.float64)),
                replace(b, kind="real", values=b.values.astype(np.float64)),
            )
        one, two = self.together([a, b])
        return one, two

    # -- operators --------------------------------------------------------------------------------

    def arithmetic(self, how: str, a: Vector, b: Vector) -> Vector:
        """`+`, `-` or `*` of numbers."""
        if "null" in (a.kind, b.kind):
            return nothing(self.library, "null", "BOOLEAN", self.count)
        if not {a.kind, b.kind} <= {"whole", "real"}:
            raise Refused(f"{a.type} {how} {b.type}")
        a, b = self.together([a, b])
        if a.type == "DECIMAL":
            raise Refused("DECIMAL arithmetic")
        valid = both(a.valid, b.valid)
        with np.errstate(all="ignore"):
            values = _ARITHMETIC[how](a.values, b.values)
            made = Vector(a.kind, values, valid, a.type)
            if a.kind == "whole":
                near = _ARITHMETIC[how](a.values.astype(np.float64), b.values.astype(np.float64))
                made = self._in_range(made, near)
        return made

    def _in_range(self, made: Vector, near: Array) -> Vector:
        if made.valid is not None:
            near = self.arrays.where(made.valid, near, 0.0)
        if not bool((self.arrays.abs(near) < 2.0**62).all()):
            raise Refused("a whole number out of range")
        self._check_range(made, base_type(made.type)[0])
        return made

    def divided(self, how: str, a: Vector, b: Vector) -> Vector:
        """`/`, `//` or `%`; whole numbers by zero are refused."""
        if "null" in (a.kind, b.kind):
            return nothing(self.library, "null", "BOOLEAN", self.count)
        if not {a.kind, b.kind} <= {"whole", "real"}:
            raise Refused(f"{a.type} {how} {b.type}")
        arrays, valid = self.arrays, both(a.valid, b.valid)
        if how == "/" or {a.kind, b.kind} != {"whole"}:
            single = "FLOAT" in (a.type, b.type) and "DOUBLE" not in (a.type, b.type)
            if how != "/" and "DECIMAL" in (a.type, b.type) and not {a.type, b.type} & {
                "DOUBLE", "FLOAT"
            }:  # fmt: skip
                raise Refused(f"DECIMAL {how}")
            real = np.float32 if single else np.float64
            x, y = a.values.astype(real), b.values.astype(real)
            with np.errstate(all="ignore"):
                if how == "//":
                    zero = (y == 0) if valid is None else (y == 0) & valid
                    if bool(zero.any()):
                        raise Refused("a division by zero")
                values = arrays.fmod(x, y) if how == "%" else x / y
            return Vector("real", values, valid, "FLOAT" if single else "DOUBLE")
        a, b = self.together([a, b])
        divisor = self.filled(b, 1)
        if bool((divisor == 0).any()):
            raise Refused("a division by zero")
        quotient = arrays.abs(a.values) // arrays.abs(divisor)
        quotient = arrays.where((a.values < 0) == (divisor < 0), quotient, -quotient)
        values = quotient if how == "//" else a.values - divisor * quotient
        made = Vector("whole", values, valid, a.type)
        return self._in_range(made, values.astype(np.float64))

    def order(self, how: str, a: Vector, b: Vector) -> Vector:
        """A comparison; NaN equals itself and is above every number."""
        if "null" in (a.kind, b.kind):
            return nothing(self.library, "truth", "BOOLEAN", self.count)
        a, b = self.compared(a, b)
        valid = both(a.valid, b.valid)
        if a.kind == "text":
            values = self._text_order(how, a, b)
        elif a.kind == "real":
            values = self._real_order(how, a.values, b.values)
        elif a.kind == "other":
            raise Refused(f"a comparison of {a.type}")
        else:
            values = _ORDERS[how](a.values, b.values)
        return Vector("truth", values, valid, "BOOLEAN")

    def _text_order(self, how: str, a: Vector, b: Vector) -> Array:
        if isinstance(a.values, str) and isinstance(b.values, str):
            return self.arrays.full(self.count, _ORDERS[how](a.values, b.values), dtype=bool)
        if isinstance(a.values, str):
            return self._text_order(_TURNED[how], b, a)
        return self.library.array(_ORDERS[how](a.values, b.values)).astype(bool)

    def _real_order(self, how: str, x: Array, y: Array) -> Array:
        nan_x, nan_y = self.arrays.isnan(x), self.arrays.isnan(y)
        if how == "=":
            return (x == y) | (nan_x & nan_y)
        if how == "<":
            return (x < y) | (~nan_x & nan_y)
        if how == "<=":
            return (x <= y) | nan_y
        if how == "<>":
            return ~self._real_order("=", x, y)
        return self._real_order(_TURNED[how], y, x)

    def same(self, a: Vector, b: Vector) -> Array:
        """IS NOT DISTINCT FROM, without NULL."""
        equal = self.order("=", a, b)
        x, y = a.known(self.library, self.count), b.known(self.library, self.count)
        return self.arrays.where(x & y, self.is_true(equal), ~x & ~y)

    def conjunction(self, a: Vector, b: Vector) -> Vector:
        """AND: false if either is, NULL if not known."""
        a, b = self.as_truth(a), self.as_truth(b)
        false = self.is_false(a) | self.is_false(b)
        true = self.is_true(a) & self.is_true(b)
        return Vector("truth", true, None if both(a.valid, b.valid) is None else true | false,
                      "BOOLEAN")  # fmt: skip

    def negation(self, a: Vector) -> Vector:
        """NOT."""
        a = self.as_truth(a)
        return replace(a, values=~a.values, constant=False)

    def is_false(self, vector: Vector) -> Array:
        """Where a truth value is false, not NULL."""
        return ~vector.values if vector.valid is None else ~vector.values & vector.valid

    def chosen(self, conditions: Sequence[Array], choices: Sequence[Vector]) -> Vector:
        """The choice of the first condition that holds; there is one choice more, for the rest."""
        made = self.together(choices)
        arrays, value = self.arrays, made[-1]
        valid = value.valid
        for condition, choice in reversed(list(zip(conditions, made[:-1], strict=True))):
            if valid is not None or choice.valid is not None:
                rest = Vector("truth", None, valid, "")
                valid = arrays.where(
                    condition, choice.known(self.library, self.count),
                    rest.known(self.library, self.count),
                )  # fmt: skip
            if value.kind == "text":
                texts, mask = self.texts(choice), self.library.series(condition)
                value = replace(value, values=texts.where(mask, self.texts(value)))
            else:
                value = replace(value, values=arrays.where(condition, choice.values, value.values))
        return replace(value, valid=valid, constant=False)

    def extreme(self, how: str, vectors: Sequence[Vector]) -> Vector:
        """greatest or least of those that are not NULL; the first of equals."""
        best, *others = self.together(list(vectors))
        for other in others:
            better = self.is_true(self.order(how, other, best))
            known_best = best.known(self.library, self.count)
            known_other = other.known(self.library, self.count)
            best = self.chosen([(better | ~known_best) & known_other], [other, best])
        return best

    def moved(self, a: Vector, b: exp.Expr, sign: int) -> Vector:
        """A date or time, an interval that is constant later."""
        by = folded(b)
        if not isinstance(by, Interval):
            raise Refused("an interval that is not constant")
        values = calendar.moved(self.arrays, self.micros(a), by.scaled(sign))
        return Vector("moment", values, a.valid, "TIMESTAMP")

    def time_part(self, name: str, node: exp.Expr) -> Vector:
        """extract(name FROM …) of a date or time, or `epoch` of a difference of times."""
        if isinstance(bare := node.unnest(), exp.Sub) and name == "epoch":
            a, b = self.value(bare.this), self.value(bare.expression)
            if {a.kind, b.kind} <= {"day", "moment"} and "moment" in (a.kind, b.kind):
                seconds = (self.micros(a) - self.micros(b)) / 1e6
                return Vector("real", seconds, both(a.valid, b.valid), "DOUBLE")
        of = self.value(node)
        if of.kind == "null":
            return of
        found = calendar.part(name, self.micros(of))
        kind = ("real", "DOUBLE") if name == "epoch" else ("whole", "BIGINT")
        return Vector(kind[0], found, of.valid, kind[1])

    def ascii(self, vector: Vector) -> Any:
        """Texts of ASCII only."""
        found = self.texts(vector)
        if not self.library.ascii(found):
            raise Refused("characters beyond ASCII")
        return found


def widest(vectors: Sequence[Vector]) -> str:
    """The type whole numbers have together; a constant takes the other's."""
    given = [v.type for v in vectors if not v.constant] or [v.type for v in vectors]
    signed = {t.startswith("U") for t in given}
    best = max(given, key=lambda t: WHOLE[base_type(t)[0]])
    return "BIGINT" if len(signed) > 1 else best


def folded(node: exp.Expr) -> Any:
    """The Python value of an expression without columns."""
    try:
        return scalar.evaluate(node, {})
    except (EngineError, DataError) as error:
        raise Refused(str(error).replace("the reference engine has no ", "")) from None


_HARMLESS = frozenset(
    [
        "safe",
        "typed",
        "big_int",
        "binary",
        "value_constructor",
        "negate",
        "ignore_nulls",
        "date_part_boundary",
    ]
)


def _check(node: exp.Expr) -> None:
    for key, flag in node.args.items():
        plain = isinstance(flag, exp.Expr | list | str) or not flag
        if not plain and key not in _HARMLESS:
            raise Refused(f"{scalar.described(node)} with {key}")


_VARYING = (exp.Column, exp.Window, exp.AggFunc)
_TRUTHS = pa.array(["false", "true"])

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b
}  # fmt: skip
_ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda a, b: a == b, "<>": lambda a, b: a != b, "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}  # fmt: skip
_TURNED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

Operator = Callable[[Expressions, Any], Vector]


# -- one function for each expression --------------------------------------------------------------


def _sum(sign: int) -> Operator:
    def add(of: Expressions, node: exp.Expr) -> Vector:
        left, right = node.this, node.expression
        if sign > 0 and _is_interval(left):
            left, right = right, left
        if _is_interval(right):
            a = of.value(left)
            return a if a.kind == "null" else of.moved(a, right, sign)
        a, b = of.value(left), of.value(right)
        if a.kind == "day" and b.kind == "whole":
            days = a.values + sign * b.values
            return Vector("day", days, both(a.valid, b.valid), "DATE")
        if a.kind == b.kind == "day" and sign < 0:
            return Vector("whole", a.values - b.values, both(a.valid, b.valid), "BIGINT")
        return of.arithmetic("+" if sign > 0 else "-", a, b)

    return add


def _is_interval(node: exp.Expr) -> bool:
    inner = node.unnest()
    if isinstance(inner, exp.Cast):
        return bool(inner.args["to"].sql(dialect="duckdb").upper() == "INTERVAL")
    return isinstance(inner, exp.Interval)


def _negated(of: Expressions, node: exp.Neg) -> Vector:
    zero = of.value(node.this)
    if zero.kind == "real":
        return replace(zero, values=-zero.values)
    return of.arithmetic("-", constant(of.library, 0, of.count), zero)


def _is(of: Expressions, node: exp.Is) -> Vector:
    found = of.value(node.this)
    if isinstance(node.expression, exp.Null):
        known = ~found.known(of.library, of.count)
        if found.kind == "other":
            missing = found.values.is_null().to_numpy(zero_copy_only=False)
            known = of.library.to_device(missing)
        return Vector("truth", known, None, "BOOLEAN")
    if isinstance(node.expression, exp.Boolean):
        wanted = of.as_truth(found)
        values = of.is_true(wanted) if node.expression.this else of.is_false(wanted)
        return Vector("truth", values, None, "BOOLEAN")
    raise Refused(scalar.described(node))


def _in(of: Expressions, node: exp.In) -> Vector:
    if node.args.get("query") or node.args.get("unnest") or node.args.get("field"):
        raise Refused("IN over a sub-query or list column")
    found, out = of.value(node.this), None
    for one in node.expressions:
        equal = of.negation(of.order("=", found, of.value(one)))
        out = equal if out is None else of.conjunction(out, equal)
    if out is None:
        raise Refused("IN of nothing")
    return of.negation(out)


def _between(of: Expressions, node: exp.Between) -> Vector:
    x = of.value(node.this)
    low = of.order(">=", x, of.value(node.args["low"]))
    return of.conjunction(low, of.order("<=", x, of.value(node.args["high"])))


def _case(of: Expressions, node: exp.Case) -> Vector:
    tested = of.value(node.this) if node.this is not None else None
    conditions, choices = [], []
    for branch in node.args["ifs"]:
        found = of.value(branch.this)
        if tested is not None:
            found = of.order("=", tested, found)
        conditions.append(of.is_true(of.as_truth(found)))
        choices.append(of.value(branch.args["true"]))
    default = node.args.get("default")
    rest = constant(of.library, None, of.count) if default is None else of.value(default)
    return of.chosen(conditions, [*choices, rest])


def _if(of: Expressions, node: exp.If) -> Vector:
    otherwise = node.args.get("false")
    rest = constant(of.library, None, of.count) if otherwise is None else of.value(otherwise)
    return of.chosen([of.truth(node.this)], [of.value(node.args["true"]), rest])


def _coalesce(of: Expressions, node: exp.Coalesce) -> Vector:
    vectors = [of.value(part) for part in [node.this, *node.expressions]]
    known = [v.known(of.library, of.count) for v in vectors[:-1]]
    return of.chosen(known, vectors)


def _nullif(of: Expressions, node: exp.Nullif) -> Vector:
    a, b = of.value(node.this), of.value(node.expression)
    equal = of.is_true(of.order("=", a, b))
    if a.kind == "null":
        return a
    return replace(a, valid=both(a.valid, ~equal), constant=False)


def _conversion(of: Expressions, node: exp.Cast) -> Vector:
    return of.converted(of.value(node.this), node.args["to"].sql(dialect="duckdb"))


def _like(of: Expressions, node: exp.Like) -> Vector:
    found, pattern = of.value(node.this), folded(node.expression)
    texts = of.texts(found)
    if not isinstance(pattern, str) or "_" in pattern or "\\" in pattern:
        raise Refused("LIKE with such a pattern")
    inner = pattern.strip("%")
    if "%" in inner:
        raise Refused("LIKE with such a pattern")
    before, after = pattern.startswith("%"), pattern.endswith("%")
    if not inner:
        values = (texts.str.len() >= 0) if pattern else (texts == "")
    elif before and after:
        values = texts.str.contains(inner, regex=False)
    elif before:
        values = texts.str.endswith(inner)
    else:
        values = texts.str.startswith(inner) if after else texts == inner
    held = of.library.array(values).astype(bool)
    made = Vector("truth", held, found.valid, "BOOLEAN")
    return of.negation(made) if node.args.get("negate") else made


def _joined(of: Expressions, node: exp.DPipe) -> Vector:
    a, b = of.value(node.this), of.value(node.expression)
    if "null" in (a.kind, b.kind):
        return nothing(of.library, "text", "VARCHAR", of.count)
    a, b = of.converted(a, "VARCHAR"), of.converted(b, "VARCHAR")
    return Vector("text", of.texts(a) + of.texts(b), both(a.valid, b.valid), "VARCHAR")


def _text(function: Callable[[Any], Any]) -> Operator:
    """A function of ASCII texts that gives texts."""

    def run(of: Expressions, node: exp.Expr) -> Vector:
        a = of.value(node.this)
        return Vector("text", function(of.ascii(a)), a.valid, "VARCHAR")

    return run


def _length(of: Expressions, node: exp.Length) -> Vector:
    a = of.value(node.this)
    counted = of.library.array(of.ascii(a).str.len()).astype(np.int64)
    return Vector("whole", counted, a.valid, "BIGINT")


def _substring(of: Expressions, node: exp.Substring) -> Vector:
    a, start = of.value(node.this), folded(node.args["start"])
    length = node.args.get("length")
    size = None if length is None else folded(length)
    if start < 1 or (size is not None and size < 0):
        raise Refused("substring from the end")
    stop = None if size is None else start - 1 + size
    return Vector("text", of.ascii(a).str.slice(start - 1, stop), a.valid, "VARCHAR")


def _replaced(of: Expressions, node: exp.Replace) -> Vector:
    a = of.value(node.this)
    old, new = (folded(node.args[k]) for k in ("expression", "replacement"))
    if not old or not isinstance(old, str) or not isinstance(new, str):
        raise Refused("replace of such texts")
    return Vector("text", of.texts(a).str.replace(old, new, regex=False), a.valid, "VARCHAR")


def _found(how: str) -> Callable[..., Vector]:
    """Whether a text starts with, ends with or holds a constant one."""

    def run(of: Expressions, text: Vector, part: Vector) -> Vector:
        if not isinstance(part.values, str):
            raise Refused("a search for a text that is not constant")
        texts = of.texts(text)
        if how == "contains":
            held = texts.str.contains(part.values, regex=False)
        elif how == "starts":
            held = texts.str.startswith(part.values)
        else:
            held = texts.str.endswith(part.values)
        return Vector("truth", of.library.array(held).astype(bool), text.valid, "BOOLEAN")

    return run


def _of_two(function: Callable[..., Vector]) -> Operator:
    return lambda of, node: function(of, of.value(node.this), of.value(node.expression))


def _real(function: Callable[[Any, Any], Any]) -> Operator:
    """A function of DOUBLEs."""

    def run(of: Expressions, node: exp.Expr) -> Vector:
        a = of.converted(of.value(node.this), "DOUBLE")
        with np.errstate(all="ignore"):
            return Vector("real", function(of.arrays, a.values), a.valid, "DOUBLE")

    return run


def _cut(function: Callable[[Any, Any], Any]) -> Operator:
    """floor, ceil, trunc and round: FLOAT stays, whole numbers become DOUBLE."""

    def run(of: Expressions, node: exp.Expr) -> Vector:
        a = of.value(node.this)
        if a.type == "DECIMAL" or a.kind not in ("whole", "real"):
            raise Refused(f"{scalar.described(node)} of {a.type}")
        if a.kind == "whole" and isinstance(node, exp.Round):
            return a
        if a.kind == "whole":
            a = of.converted(a, "DOUBLE")
        return replace(a, values=function(of.arrays, a.values).astype(a.values.dtype))

    return run


def _rounded(arrays: Any, x: Array) -> Array:
    """Halves away from zero."""
    with np.errstate(all="ignore"):
        size = arrays.abs(x)
        down = arrays.floor(size)
        return arrays.copysign(down + (size - down >= 0.5), x)


def _round(of: Expressions, node: exp.Round) -> Vector:
    if node.args.get("decimals") is not None:
        raise Refused("round to digits")
    return _cut(_rounded)(of, node)


def _absolute(of: Expressions, node: exp.Abs) -> Vector:
    a = of.value(node.this)
    if a.kind not in ("whole", "real"):
        raise Refused(f"abs of {a.type}")
    return replace(a, values=of.arrays.abs(a.values), constant=False)


def _sign(of: Expressions, node: exp.Sign) -> Vector:
    a = of.value(node.this)
    if a.kind not in ("whole", "real"):
        raise Refused(f"sign of {a.type}")
    values = (a.values > 0).astype(np.int64) - (a.values < 0).astype(np.int64)
    return Vector("whole", values, a.valid, "TINYINT")


def _is_nan(of: Expressions, node: exp.IsNan) -> Vector:
    a = of.converted(of.value(node.this), "DOUBLE")
    return Vector("truth", of.arrays.isnan(a.values), a.valid, "BOOLEAN")


def _power(of: Expressions, node: exp.Pow) -> Vector:
    a, b = (of.converted(of.value(n), "DOUBLE") for n in (node.this, node.expression))
    with np.errstate(all="ignore"):
        values = of.arrays.power(a.values, b.values)
    return Vector("real", values, both(a.valid, b.valid), "DOUBLE")


def _difference(of: Expressions, node: exp.DateDiff) -> Vector:
    start, stop = of.value(node.expression), of.value(node.this)
    unit = node.args["unit"].name
    found = calendar.boundaries(unit, of.micros(start), of.micros(stop))
    return Vector("whole", found, both(start.valid, stop.valid), "BIGINT")


def _truncated(of: Expressions, node: exp.Expr) -> Vector:
    a = of.value(node.this)
    found = calendar.truncated(node.args["unit"].name, of.micros(a))
    return Vector("moment", found, a.valid, "TIMESTAMP")


def _null_safe(same: bool) -> Operator:
    def run(of: Expressions, node: exp.Expr) -> Vector:
        found = of.same(of.value(node.this), of.value(node.expression))
        return Vector("truth", found if same else ~found, None, "BOOLEAN")

    return run


def _trimmed(of: Expressions, node: exp.Trim) -> Vector:
    if any(node.args.get(k) for k in ("expression", "collation", "position")):
        raise Refused("trim of given characters")
    return _text(lambda s: s.str.strip(" "))(of, node)


def _or(of: Expressions, node: exp.Or) -> Vector:
    sides = [of.negation(of.value(n)) for n in (node.this, node.expression)]
    return of.negation(of.conjunction(*sides))


def _extreme(how: str) -> Operator:
    return lambda of, node: of.extreme(how, [of.value(p) for p in [node.this, *node.expressions]])


def _ordered(how: str) -> Operator:
    return lambda of, node: of.order(how, of.value(node.this), of.value(node.expression))


def _numbers(how: str) -> Operator:
    if how == "*":
        return lambda of, n: of.arithmetic("*", of.value(n.this), of.value(n.expression))
    return lambda of, n: of.divided(how, of.value(n.this), of.value(n.expression))


_DATE_PARTS: dict[type[exp.Expr], str] = {
    exp.Year: "year", exp.Quarter: "quarter", exp.Month: "month", exp.Week: "week",
    exp.Day: "day", exp.DayOfMonth: "day", exp.DayOfWeek: "dow", exp.DayOfYear: "doy",
    exp.Hour: "hour", exp.Minute: "minute", exp.Second: "second", exp.TimeToUnix: "epoch",
}  # fmt: skip


def _part_of(name: str) -> Operator:
    return lambda of, node: of.time_part(name, node.this)


_OPERATORS: dict[type[Any], Operator] = {
    exp.And: lambda of, n: of.conjunction(of.value(n.this), of.value(n.expression)),
    exp.Or: _or,
    exp.Not: lambda of, n: of.negation(of.value(n.this)),
    exp.Is: _is,
    exp.NullSafeEQ: _null_safe(True),
    exp.NullSafeNEQ: _null_safe(False),
    exp.In: _in,
    exp.Between: _between,
    exp.Case: _case,
    exp.If: _if,
    exp.Coalesce: _coalesce,
    exp.Nullif: _nullif,
    exp.Greatest: _extreme(">"),
    exp.Least: _extreme("<"),
    exp.Cast: _conversion,
    exp.TryCast: _conversion,
    exp.Add: _sum(1),
    exp.Sub: _sum(-1),
    exp.Mul: _numbers("*"),
    exp.Div: _numbers("/"),
    exp.IntDiv: _numbers("//"),
    exp.Mod: _numbers("%"),
    exp.Neg: _negated,
    **{
        kind: _ordered(how)
        for kind, how in (
            *((exp.EQ, "="), (exp.NEQ, "<>"), (exp.LT, "<"), (exp.LTE, "<=")),
            *((exp.GT, ">"), (exp.GTE, ">=")),
        )
    },
    exp.Abs: _absolute,
    exp.Sign: _sign,
    exp.Floor: _cut(lambda xp, x: xp.floor(x)),
    exp.Ceil: _cut(lambda xp, x: xp.ceil(x)),
    exp.Trunc: _cut(lambda xp, x: xp.trunc(x)),
    exp.Round: _round,
    exp.Sqrt: _real(lambda xp, x: xp.sqrt(x)),
    exp.Exp: _real(lambda xp, x: xp.exp(x)),
    exp.Ln: _real(lambda xp, x: xp.log(x)),
    exp.Sin: _real(lambda xp, x: xp.sin(x)),
    exp.Cos: _real(lambda xp, x: xp.cos(x)),
    exp.Pow: _power,
    exp.IsNan: _is_nan,
    exp.DPipe: _joined,
    exp.Lower: _text(lambda s: s.str.lower()),
    exp.Upper: _text(lambda s: s.str.upper()),
    exp.Length: _length,
    exp.Substring: _substring,
    exp.Replace: _replaced,
    exp.Trim: _trimmed,
    exp.Like: _like,
    exp.StartsWith: _of_two(_found("starts")),
    exp.Contains: _of_two(_found("contains")),
    exp.DateDiff: _difference,
    exp.TimestampTrunc: _truncated,
    exp.DateTrunc: _truncated,
    exp.Extract: lambda of, n: of.time_part(n.this.name, n.expression),
    **{kind: _part_of(name) for kind, name in _DATE_PARTS.items()},
}

_NAMED: dict[str, Callable[..., Vector]] = {
    "prefix": _found("starts"), "suffix": _found("ends"), "ends_with": _found("ends")
}  # fmt: skip
