"""The meaning of a plan's steps as obvious loops, one row at a time; None is NULL.

Rows are torch vectors, so that gradients come from autograd over the same loops.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from relann.algebra.plan import (
    Gather,
    Groups,
    Partition,
    SegmentReduce,
    SparseProduct,
    Stacked,
    Step,
)
from relann.algebra.rowmaps import RowMaps, partition_key
from relann.algebra.terms import (
    Apply,
    Coalesce,
    Concat,
    Constant,
    Dot,
    Field,
    Learned,
    Lift,
    Linear,
    Lookup,
    Norm,
    Normalize,
    Term,
)
from relann.provenance.module import QueryModule

Row = Tensor | None

UNARY = {
    "relu": torch.relu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": functional.elu,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "neg": torch.neg,
}
BINARY = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div}


def values(module: QueryModule, maps: RowMaps) -> list[list[Row]]:
    """The value of every step, row by row."""
    found: list[list[Row]] = []
    for step in maps.plan.steps:
        rows = _Rows(module, maps, step, found)
        found.append([rows.row(r) for r in range(maps.counts[step.space])])
    return found


class _Rows:
    def __init__(
        self, module: QueryModule, maps: RowMaps, step: Step, found: list[list[Row]]
    ) -> None:
        self.module, self.maps, self.step, self.found = module, maps, step, found

    def row(self, r: int) -> Row:
        operation = self.step.operation
        space, found, maps = self.step.space, self.found, self.maps
        match operation:
            case Gather(source, via):
                at = int(maps.gathers[space, via][r])
                return None if at < 0 else found[source][at]
            case SegmentReduce(source, how, where):
                members = self.members(r, where)
                return reduced(how, [found[source][m] for m in members])
            case SparseProduct(source, via, weight, where):
                inner = maps.plan.spaces[space].source
                parts = []
                for m in self.members(r, where):
                    at = int(maps.gathers[inner, via][m])
                    x = None if at < 0 else found[source][at]
                    w = torch.ones(1) if weight is None else found[weight][m]
                    parts.append(None if x is None or w is None else w * x)
                return reduced("sum", parts)
            case Partition(source, over):
                return self.window(r, source, over.how, bool(over.order))
            case Stacked(sources):
                for s in sources:
                    if r < len(found[s]):
                        return found[s][r]
                    r -= len(found[s])
        assert isinstance(operation, Term)
        return self.term(operation, r)

    def members(self, group: int, where) -> list[int]:
        space = self.maps.plan.spaces[self.step.space]
        assert isinstance(space, Groups)
        ids = self.maps.groups[self.step.space]
        chosen = [m for m in range(len(ids)) if ids[m] == group]
        if where is not None:
            condition = self.maps.columns[space.source, where].to_pylist()
            chosen = [m for m in chosen if condition[m] is True]
        return chosen

    def window(self, r: int, source: int, how: str, running: bool) -> Row:
        parts = self.maps.partitions[partition_key(self.step)]
        rows = [m for m in range(len(parts.ids)) if parts.ids[m] == parts.ids[r]]
        if running:
            rows = sorted(rows, key=lambda m: parts.position[m])[: int(parts.upto[r])]
        if how != "softmax":
            return reduced(how, [self.found[source][m] for m in rows])
        mine = self.found[source][r]
        known = [self.found[source][m] for m in rows if self.found[source][m] is not None]
        return None if mine is None else mine.exp() / sum(x.exp() for x in known)

    def term(self, term: Term, r: int) -> Row:
        arrays = dict(self.module.named_parameters())
        args = [self.found[int(c.name[1:])][r] for c in term.children]
        lenient = isinstance(term, Coalesce)
        if not lenient and any(a is None for a in args):
            return None
        match term:
            case Field(name):
                return self.found[int(name[1:])][r]
            case Constant(value):
                return torch.tensor([value], dtype=self.module.dtype)
            case Lift(content):
                x = self.maps.columns[self.step.space, content][r].as_py()
                if x is None:
                    return None
                return torch.tensor(x, dtype=self.module.dtype).reshape(-1)
            case Apply(operation, parts):
                return UNARY[operation](args[0]) if len(parts) == 1 else BINARY[operation](*args)
            case Linear(_, weight, bias, per):
                w, b = arrays[weight.name], None if bias is None else arrays[bias.name]
                if per is not None:
                    k = self.key(per, r)
                    w, b = w[k], None if b is None else b[k]
                return args[0] @ w if b is None else args[0] @ w + b
            case Learned(parameter, per):
                array = arrays[parameter.name]
                return array if per is None else array[self.key(per, r)]
            case Lookup(table, key):
                k = self.key(key, r)
                return (
                    torch.zeros(term.width, dtype=self.module.dtype)
                    if k is None
                    else (arrays[table.name][k])
                )
            case Dot():
                return (args[0] * args[1]).sum().reshape(1)
            case Concat():
                return torch.cat(args)
            case Coalesce():
                first = next((a for a in args if a is not None), None)
                return None if first is None else first.expand(term.width)
            case Normalize():
                norm = args[0].square().sum().sqrt() if bool(args[0].any()) else 0
                return args[0] / max(norm, 1e-12)
            case Norm("layer", _, scale, shift):
                x = args[0]
                apart = x - x.mean()
                deviation = (apart.square().mean() + 1e-5).sqrt()
                return apart / deviation * arrays[scale.name] + arrays[shift.name]
        raise AssertionError(term)

    def key(self, key, r: int) -> int | None:
        table = self.module.encoders.vocabularies[key.site].table
        kept = list(zip(*(c.to_pylist() for c in table.columns[:-1]), strict=True))
        parts = tuple(self.maps.columns[self.step.space, p][r].as_py() for p in key.parts)
        return kept.index(parts) if parts in kept else None


def reduced(how: str, rows: list[Row]) -> Row:
    """An SQL aggregate, element by element."""
    known = [x for x in rows if x is not None]
    if how == "count":
        return torch.tensor([float(len(known))], dtype=torch.float64)
    if not known or (how == "stddev" and len(known) < 2):
        return None
    total = known[0]
    for x in known[1:]:
        if how == "min":
            total = torch.where(x < total, x, total)
        elif how == "max":
            total = torch.where(x > total, x, total)
        else:
            total = total + x
    if how == "avg":
        return total / len(known)
    if how == "stddev":
        mean = total / len(known)
        spread = sum((x - mean).square() for x in known) / (len(known) - 1)
        varied = spread > 0
        return torch.where(varied, torch.where(varied, spread, 1.0).sqrt(), 0.0)
    return total
