"""Vectors of sixteen numbers in compiled loops, as LLVM instructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

# Written out because numba's automatic vectoriser leaves rows of 16 columns scalar: E = 5M,
# n = 500k, width 16, float32, gather-scale-sum 29 ms automatic, 16 ms so; width 64: 66 and 56 ms;
# FBGEMM's `embedding_bag` 17 and 76 ms (two cores, torch 2.13, numba 0.68, November 2026).
#
# numba keeps a compiled loop on disk until the loop's own file changes: after a change here, touch
# `loops.py`.

LANES = 16
_I1, _I8, _I32 = ir.IntType(1), ir.IntType(8), ir.IntType(32)
_untyped: Any = cgutils


class Lanes(types.Type):
    """Sixteen numbers of one type, held in registers."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


class Mask(types.Type):
    """Sixteen truth values: the columns of a block that exist."""

    def __init__(self) -> None:
        super().__init__(name="Mask")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        element = {
            types.float32: ir.FloatType(),
            types.float64: ir.DoubleType(),
            types.int32: ir.IntType(32),
            types.int64: ir.IntType(64),
        }[kind.dtype]
        super().__init__(manager, kind, ir.VectorType(element, LANES))  # type: ignore[no-untyped-call]


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Mask) -> None:
        super().__init__(manager, kind, ir.VectorType(_I1, LANES))  # type: ignore[no-untyped-call]


_MASK = Mask()


def _instruction(define: Callable[..., Any]) -> Any:
    """A function of compiled code that is these LLVM instructions."""
    return intrinsic(define)


def _suffix(vector: Any) -> str:
    letter = "i" if isinstance(vector.element, ir.IntType) else "f"
    double = isinstance(vector.element, ir.DoubleType) or getattr(vector.element, "width", 0) == 64
    return f"v{LANES}{letter}{64 if double else 32}"


def _pointer(context: Any, builder: Any, kind: Any, array: Any, row: Any, column: Any) -> Any:
    made, point = context.make_array(kind)(context, builder, array), _untyped.get_item_pointer
    return point(context, builder, kind, made, [row, column])


def _call(builder: Any, name: str, result: Any, args: Sequence[Any]) -> Any:
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(_untyped.get_or_insert_function(builder.module, kind, name), args)


def _spread(builder: Any, value: Any) -> Any:
    undefined = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    one = builder.insert_element(undefined, value, _I32(0))
    zeros = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    return builder.shuffle_vector(one, undefined, zeros)


@_instruction
def prefetch(typing: Any, array: Any, row: Any, column: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], *args)
        place = builder.bitcast(place, _I8.as_pointer())
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), [place, _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), generate


@_instruction
def splat(typing: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _spread(builder, args[0])

    return Lanes(value)(value), generate


@_instruction
def first_lanes(typing: Any, count: Any) -> Any:
    """Mask of the first `count` lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = ir.Constant(ir.VectorType(_I32, LANES), list(range(LANES)))
        return builder.icmp_signed("<", lane, _spread(builder, args[0]))

    return _MASK(types.int32), generate


@_instruction
def load(typing: Any, array: Any, row: Any, column: Any) -> Any:
    """Sixteen neighbours from array[row, column] on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_value_type(signature.return_type)
        place = _pointer(context, builder, signature.args[0], *args)
        loaded = builder.load(builder.bitcast(place, kind.as_pointer()))
        loaded.align = 4
        return loaded

    return Lanes(array.dtype)(array, types.intp, types.intp), generate


@_instruction
def load_some(typing: Any, array: Any, row: Any, column: Any, mask: Any) -> Any:
    """Like `load` where the mask holds; 0, and no access, elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_value_type(signature.return_type)
        place = _pointer(context, builder, signature.args[0], *args[:3])
        place = builder.bitcast(place, kind.as_pointer())
        zero = ir.Constant(kind, [0] * LANES)
        name = f"llvm.masked.load.{_suffix(kind)}.p0"
        return _call(builder, name, kind, [place, _I32(4), args[3], zero])

    return Lanes(array.dtype)(array, types.intp, types.intp, mask), generate


@_instruction
def store(typing: Any, array: Any, row: Any, column: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], *args[:3])
        stored = builder.store(args[3], builder.bitcast(place, args[3].type.as_pointer()))
        stored.align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, value), generate


@_instruction
def store_some(typing: Any, array: Any, row: Any, column: Any, value: Any, mask: Any) -> Any:
    """Like `store` where the mask holds; nothing elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], *args[:3])
        place = builder.bitcast(place, args[3].type.as_pointer())
        name = f"llvm.masked.store.{_suffix(args[3].type)}.p0"
        _call(builder, name, ir.VoidType(), [args[3], place, _I32(4), args[4]])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, value, mask), generate


@_instruction
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a · b + c."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        return _call(builder, f"llvm.fma.{_suffix(kind)}", kind, args)

    return a(a, b, c), generate


def _arithmetic(name: str) -> Any:
    def define(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return a(a, b), generate

    return _instruction(define)


plus, times = _arithmetic("fadd"), _arithmetic("fmul")


@_instruction
def exceeds(typing: Any, value: Any, best: Any) -> Any:
    """Mask of the lanes where value > best or value is NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        more = builder.fcmp_ordered(">", args[0], args[1])
        return builder.or_(more, builder.fcmp_unordered("uno", args[0], args[0]))

    return _MASK(value, best), generate


@_instruction
def choose(typing: Any, mask: Any, value: Any, other: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return value(mask, value, other), generate


@_instruction
def lane_sum(typing: Any, value: Any) -> Any:
    """Sum of the lanes, halves folded onto each other: the same order on every machine."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, half = args[0], LANES // 2
        while half:
            picks = [(i + half) % LANES for i in range(LANES)]
            fold = ir.Constant(ir.VectorType(_I32, LANES), picks)
            vector = builder.fadd(vector, builder.shuffle_vector(vector, vector, fold))
            half //= 2
        return builder.extract_element(vector, _I32(0))

    return value.dtype(value), generate
