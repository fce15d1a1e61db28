"""Training where row maps are built chunk by chunk, each while the one before it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from relann.algebra.rowmaps import RowMaps, running
from relann.algebra.terms import Content
from relann.errors import DataError
from relann.models.ahead import Ahead
from relann.models.batches import Batches, Labelled, Parts, Sliced, check_predicted
from relann.models.chunks import Cutting, SeedMaps, chunk_order
from relann.models.learning import Learning, Watch, unwatched
from relann.models.losses import infer_head
from relann.models.options import Options
from relann.models.splits import Numbers, decoded, labelled, output_column, prediction_step
from relann.models.training import Trained, deciding_metric, device_of, remedy, trained_by
from relann.provenance.arrays import host, shared
from relann.provenance.devices import memory
from relann.provenance.encoders import Encoders
from relann.provenance.fitting import Fitting
from relann.provenance.identity import Fresh, Identities
from relann.provenance.module import QueryModule
from relann.provenance.slices import cut

Key = tuple[str, int]
"""A split and the number of a chunk of its seeds."""


def fit_in_chunks(
    maps: SeedMaps,
    cutting: Cutting,
    options: Options,
    interrupt: Callable[[], None] | None,
    watch: Watch = unwatched,
) -> Trained:
    """A model trained as `fit` trains it, its row maps built for a chunk of seeds at a time.

    Once before the first epoch all chunks are built to read labels and fit encoders, then in every
    epoch: those of training in an order drawn from seed and epoch, the batches inside each chunk
    drawn at random too, then those of validation. With `interrupt`, which stops what the maps'
    connection runs, a thread builds the next chunk while one trains.

    The same data, options, chunks and number of threads give the same bits. `rows` of the outcome
    lack the test split, whose maps are not built. Raises what `fit` raises.
    """
    seeds: dict[Key, Numbers] = {}
    for name, parts in (("train", cutting.train), ("val", cutting.val)):
        seeds.update({(name, number): part for number, part in enumerate(parts)})
    read = _Read(maps, options)
    with Ahead(iter(seeds), lambda key: maps.build(seeds[key]), interrupt) as first:
        for _ in seeds:
            read.add(*first.take())
    rows = {name: sum(map(len, read.of_split(name))) for name in ("train", "val")}
    if not rows["train"]:
        raise DataError(
            f"there are no training rows: the query has none for {maps.count:,} seeds, or none of "
            f"them is of split 'train' with a label `{options.label}`"
        )
    width = maps.plan.steps[prediction_step(maps.plan)].width
    span = options.span("loss") or options.span("label")
    train, val = (pa.chunked_array(read.of_split(n), read.type) for n in ("train", "val"))
    head = infer_head(read.label, width, train, val, options.loss, span)
    metric = deciding_metric(options, head, rows["val"])
    encoders = read.encoders()
    device = device_of(options)
    every = pa.concat_arrays([*train.chunks, *val.chunks])
    targets = shared(head.targets(every, read.label)).to(device)
    of_chunk = dict(zip(seeds, _pieces(targets, [len(read.rows[k]) for k in seeds]), strict=True))
    with memory(device, "training", remedy(options)):
        module = QueryModule(maps.plan, encoders, options.seed, device=device)
        prepared = _Prepared(maps, seeds, module, read, cutting.kept)
        kept = prepared(("val", 0)) if cutting.kept else None
        keys = _keys(cutting, options, bool(rows["val"]) and not cutting.kept)
        with Ahead(keys, prepared, interrupt) as ahead:

            def begin() -> tuple[Learning, Encoders]:
                batches = Chunks(ahead, "train", read.rows, of_chunk, options.batch_size)
                checks: Labelled | None = None
                if kept is not None and rows["val"]:
                    own = read.rows["val", 0], of_chunk["val", 0]
                    checks = Batches(kept, *own, options.batch_size, "validation")
                elif rows["val"]:
                    checks = Chunks(ahead, "val", read.rows, of_chunk, options.batch_size)
                return Learning(module, head, options, metric, batches, checks), encoders

            return trained_by(begin, options, head, rows, device, watch)


def _pieces(targets: Tensor, lengths: Sequence[int]) -> Iterator[Tensor]:
    begin = 0
    for length in lengths:
        yield targets[begin : begin + length]
        begin += length


def _keys(cutting: Cutting, options: Options, validated: bool) -> Iterator[Key]:
    """The chunks of all epochs, in the order they are needed; those of validation if they are."""
    for epoch in range(1, options.epochs + 1):
        for number in chunk_order(options.seed, epoch, len(cutting.train)):
            yield "train", int(number)
        if validated:
            yield from (("val", number) for number in range(len(cutting.val)))


class _Read:
    """What a first look at all chunks tells: labels, labelled rows, what encoders are fitted on.

    A row counts once for the encoders, however many chunks it is in: rows of spaces that read no
    seeds have the same number in all chunks, others the same identity.
    """

    def __init__(self, maps: SeedMaps, options: Options) -> None:
        self._maps = maps
        assert options.label is not None
        self.label: Content = output_column(maps.plan, options.label, "label", None)
        self.rows: dict[Key, Numbers] = {}
        self._labels: dict[Key, pa.Array] = {}
        self._fitting = Fitting(maps.plan, options.finetune)
        self._fresh = Fresh()
        counts = maps.seeded.fixed.counts
        self._reached = {s: np.zeros(n, dtype=bool) for s, n in counts.items()}

    @property
    def type(self) -> pa.DataType:
        """The type of labels."""
        return next(iter(self._labels.values())).type

    def add(self, key: Key, built: tuple[RowMaps, dict[int, object]]) -> None:
        """The maps of a chunk and their relations."""
        maps, held = built
        self.rows[key], self._labels[key] = self._labelled(maps)
        if key[0] == "train":
            reached = cut(maps, self.rows[key]).maps.kept
            self._fit(maps, held, {space: host(rows) for space, rows in reached.items()})

    def check(self, key: Key, maps: RowMaps) -> None:
        """Raise DataError where a chunk that is built again has other labelled rows."""
        rows, labels = self._labelled(maps)
        if not (np.array_equal(rows, self.rows[key]) and labels.equals(self._labels[key])):
            raise DataError(
                "the tables were changed while the model was trained, and the query has other rows "
                "for its seeds now; train it again"
            )

    def _labelled(self, maps: RowMaps) -> tuple[Numbers, pa.Array]:
        values = decoded(maps.columns[maps.plan.output, self.label])
        rows = labelled(values, np.arange(len(values)))
        return rows, values.take(pa.array(rows))

    def _fit(
        self,
        maps: RowMaps,
        held: Mapping[int, object],
        reached: Mapping[int, npt.NDArray[np.integer]],
    ) -> None:
        varying = self._maps.seeded.varying
        found = Identities(maps.plan, self._maps.engine, held, varying)
        for space in sorted(self._fitting.spaces):
            rows = reached[space]
            if space not in varying:
                self._reached[space][rows] = True
                continue
            if space != maps.plan.output:  # whose rows are of one seed, and so of one chunk
                rows = self._fresh.rows(space, rows, found.of(space))
            self._add(space, maps, rows)

    def _add(self, space: int, maps: RowMaps, rows: npt.NDArray[np.integer]) -> None:
        taken = pa.array(rows)
        self._fitting.add(space, lambda content: maps.columns[space, content].take(taken))

    def of_split(self, name: str) -> list[pa.Array]:
        """The labels of a split's labelled rows, chunk by chunk."""
        return [values for (split, _), values in self._labels.items() if split == name]

    def encoders(self) -> Encoders:
        """Fitted on the rows that labelled training rows of all chunks reach."""
        fixed = self._maps.seeded.fixed
        for space in sorted(self._fitting.spaces - self._maps.seeded.varying):
            self._add(space, fixed, np.flatnonzero(self._reached[space]))
        return self._fitting.encoders()


class _Prepared:
    """Chunks made ready to be cut into batches; what all seeds share is encoded once."""

    def __init__(
        self,
        maps: SeedMaps,
        seeds: Mapping[Key, Numbers],
        module: QueryModule,
        read: _Read,
        kept: bool,
    ) -> None:
        self._maps = maps
        self._read = read
        self._kept = kept
        self._seeds = seeds
        self._module = module
        fixed = running(maps.seeded.fixed, maps.plan)
        self._shared = module.inputs(fixed, fixed.counts)

    def __call__(self, key: Key) -> Sliced:
        maps, _ = self._maps.build(self._seeds[key])
        self._read.check(key, maps)
        own = self._module.inputs(maps, self._maps.seeded.varying)
        bare = maps if self._kept and key[0] == "val" else replace(maps, columns={})
        return Sliced(self._module, bare, self._shared.beside(own))


class Chunks:
    """The labelled rows of a split, chunk by chunk as they come `ahead`; see `Labelled`."""

    def __init__(
        self,
        ahead: Ahead[Key, Sliced],
        split: str,
        rows: Mapping[Key, Numbers],
        targets: Mapping[Key, Tensor],
        size: int | None,
    ) -> None:
        self._ahead = ahead
        self._rows = {key: found for key, found in rows.items() if key[0] == split}
        self._of = {key: targets[key] for key in self._rows}
        self._size = size
        self._name = "training" if split == "train" else "validation"
        self.targets = torch.cat(list(self._of.values()))

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.targets)

    def shuffled(self, source: np.random.Generator) -> Parts:
        """Every row once, in slices drawn at random inside the chunk that is next."""
        return self._parts(lambda count: source.permutation(count))

    def ordered(self) -> Parts:
        """Every row once, in order."""
        return self._parts(np.arange)

    def _parts(self, order_of: Callable[[int], Numbers]) -> Parts:
        for _ in self._rows:
            key, sliced = self._ahead.take()
            rows = self._rows[key]
            order = order_of(len(rows))
            size = self._size or max(1, len(rows))
            for begin in range(0, len(order), size):
                chosen = np.sort(order[begin : begin + size])
                part = sliced.part(rows[chosen])
                check_predicted(part.valid, self._name)
                yield part, self._of[key][torch.from_numpy(chosen).to(self.targets.device)]
                del part
            del sliced
