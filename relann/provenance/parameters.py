"""The learned arrays of a plan as torch parameters, by the names they have in the query."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from relann.algebra.plan import Plan
from relann.algebra.terms import Learned, Linear, Lookup, Norm, Parameter, Term
from relann.errors import DataError, PlanError, did_you_mean, listing
from relann.provenance.devices import CPU

NORMAL = 0.1
"""Standard deviation of parameters that start `normal`."""


@dataclass(frozen=True)
class Array:
    """A parameter of a plan and its leading axis: `site` names the vocabulary it follows."""

    parameter: Parameter
    site: str | None = None

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The whole shape, given the number of values in each vocabulary."""
        if self.site is None:
            return self.parameter.shape
        if self.site not in sizes:
            raise DataError(f"`{self.parameter.name}` follows keys that were never fitted")
        return (sizes[self.site], *self.parameter.shape)


def arrays(plan: Plan) -> list[Array]:
    """The parameters of a plan, each once, in the order the steps read them."""
    found: dict[str, Array] = {}
    for step in plan.steps:
        if isinstance(step.operation, Term):
            for array in _read(step.operation):
                known = found.setdefault(array.parameter.name, array)
                if known != array:
                    raise PlanError(f"`{array.parameter.name}` stands for {known} and for {array}")
    return list(found.values())


def _read(term: Term) -> Iterator[Array]:
    match term:
        case Linear(_, weight, bias, per):
            site = per.site if per is not None else None
            yield Array(weight, site)
            if bias is not None:
                yield Array(bias, site)
        case Learned(parameter, per):
            yield Array(parameter, per.site if per is not None else None)
        case Lookup(table, key):
            yield Array(table, key.site)
        case _:
            yield from (Array(p) for p in term.parameters)


def running(norm: Norm) -> tuple[str, str, str]:
    """Names of a batch norm's running mean, running variance and number of steps seen."""
    site = norm.scale.name.rpartition(".")[0]
    return f"{site}.running_mean", f"{site}.running_var", f"{site}.steps"


def start_value(array: Array, sizes: Mapping[str, int], seed: int) -> Tensor:
    """The start value in float64; depends on the seed, the parameter's name and its shape only.

    glorot: uniform in ±√(6 / (rows + columns)) of one set (Glorot and Bengio 2010); the rows of an
    embedding are its keys. normal: mean 0, standard deviation 0.1.
    """
    shape, generator = array.shape(sizes), generator_for(seed, array.parameter.name)
    match array.parameter.initial:
        case "zeros":
            return torch.zeros(shape, dtype=torch.float64)
        case "ones":
            return torch.ones(shape, dtype=torch.float64)
        case "normal":
            return NORMAL * torch.randn(shape, dtype=torch.float64, generator=generator)
        case "glorot":
            rows, columns = shape[-2:] if len(shape) > 1 else (1, *shape)
            bound = math.sqrt(6 / max(1, rows + columns))
            value = torch.rand(shape, dtype=torch.float64, generator=generator)
            return (2 * value - 1) * bound
    raise PlanError(f"no parameter starts as `{array.parameter.initial}`")


def generator_for(seed: int, name: str, device: torch.device = CPU) -> torch.Generator:
    """A source of random numbers of its own for each (seed, name); devices draw other ones."""
    digest = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


class Scope(nn.Module):
    """Parameters and buffers under dotted names, whatever words the names are made of.

    A name's parts become nested modules, so that `state_dict` has the names as they are. Torch's
    own registration refuses names that its modules use themselves (`type`, `half`), so parts are
    put straight into the module's tables.
    """

    def put(self, name: str, value: nn.Parameter | Tensor) -> None:
        """Keep a parameter, or a tensor that is saved with the parameters, under a name."""
        head, _, rest = name.partition(".")
        if rest:
            inner = self._modules.setdefault(head, Scope())
            assert isinstance(inner, Scope)
            inner.put(rest, value)
        elif isinstance(value, nn.Parameter):
            self._parameters[head] = value
        else:
            self._buffers[head] = value


def materialise(
    plan: Plan,
    sizes: Mapping[str, int],
    seed: int,
    dtype: torch.dtype,
    scope: Scope,
    device: torch.device = CPU,
) -> dict[str, Tensor]:
    """The plan's parameters and running statistics by name, also put into `scope`.

    `sizes` are the numbers of values of the vocabularies that `per` and embeddings follow.
    """
    found: dict[str, Tensor] = {}
    for array in arrays(plan):
        value = start_value(array, sizes, seed).to(device, dtype)  # the same on any device
        found[array.parameter.name] = nn.Parameter(value)
    for step in plan.steps:
        if isinstance(step.operation, Norm) and step.operation.kind == "batch":
            mean, variance, steps = running(step.operation)
            found[mean] = torch.zeros(step.width, dtype=dtype, device=device)
            found[variance] = torch.ones(step.width, dtype=dtype, device=device)
            found[steps] = torch.zeros((), dtype=torch.int64, device=device)
    for name, value in found.items():
        scope.put(name, value)
    return found


def to_bytes(state: Mapping[str, Tensor]) -> bytes:
    """The arrays as one safetensors file."""
    # clones: safetensors refuses tensors that share memory
    return safetensors.torch.save(
        {n: t.detach().cpu().contiguous().clone() for n, t in state.items()}
    )


def from_bytes(data: bytes) -> dict[str, Tensor]:
    """The arrays of a safetensors file; DataError where it is not one."""
    try:
        return dict(safetensors.torch.load(data))
    except (safetensors.SafetensorError, ValueError) as error:
        raise DataError(f"these are not weights in safetensors format: {error}") from error


def load(into: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy arrays over those of the same names; DataError unless names and shapes are the same.

    Nothing is copied when anything is wrong.
    """
    if missing := [n for n in into if n not in state]:
        raise DataError(f"the weights lack {_named(missing)}")
    if unknown := [n for n in state if n not in into]:
        hint = did_you_mean(unknown[0], into)
        raise DataError(f"the weights hold {_named(unknown)}, which the model has not.{hint}")
    for name, value in state.items():
        if value.shape != into[name].shape:
            raise DataError(
                f"`{name}` has shape {tuple(value.shape)} in the weights, "
                f"{tuple(into[name].shape)} in the model"
            )
    with torch.no_grad():
        for name, value in state.items():
            into[name].copy_(value)


def _named(names: Iterable[str]) -> str:
    return listing((f"`{n}`" for n in names), most=5)
