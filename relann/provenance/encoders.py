"""Content values as numbers: vocabularies and statistics fitted on training rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from relann.algebra.plan import Plan, Step
from relann.algebra.rowmaps import RowMaps
from relann.algebra.terms import Content, Encode, Key, Learned, Linear, Lookup, Pretrained
from relann.errors import DataError
from relann.provenance.texts import Origin

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int32]

_DAY = 86_400 * 10**6  # microseconds
_HOUR, _YEAR = 3600.0, 365.25 * 86400.0
SCALES = (_HOUR, 86400.0, 7 * 86400.0, 30 * 86400.0, _YEAR)  # seconds
GAPS = r"[^\p{L}\p{N}]+"
"""What stands between words, as both Arrow and DuckDB read it."""


@dataclass(frozen=True)
class Vocabulary:
    """The distinct values of a key, numbered from the most frequent, equally frequent by value.

    `table` has one row for each value, in order: columns p0, p1, … hold the parts of the key, with
    the types the database gave them, `rows` how often the value was met. NULL is a value.
    """

    table: pa.Table

    @property
    def size(self) -> int:
        """How many values there are."""
        return int(self.table.num_rows)

    @property
    def _names(self) -> list[str]:
        return list(self.table.column_names[:-1])

    @classmethod
    def fit(cls, keys: Iterable[Sequence[pa.Array]], most: int | None = None) -> Vocabulary:
        """The vocabulary of one or several key columns, each a sequence of the key's parts.

        At most `most` values are kept. DataError where the parts' types cannot be compared.
        """
        tables = []
        for parts in keys:
            columns = {f"p{i}": plain(a) for i, a in enumerate(parts)}
            tables.append(pa.table(columns))
        try:
            values = pa.concat_tables(tables, promote_options="permissive")
            names = values.column_names
            found = values.group_by(names, use_threads=False).aggregate([([], "count_all")])
            found = found.select([*names, "count_all"]).rename_columns([*names, "rows"])
            return cls._ordered(found).first(most)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            types = ", ".join(str(a.type) for t in tables for a in t.columns)
            raise DataError(f"values of type {types} cannot be keys: {error}") from error

    @classmethod
    def _ordered(cls, counted: pa.Table) -> Vocabulary:
        names = counted.column_names[:-1]
        keys = [("rows", "descending"), *((n, "ascending") for n in names)]
        return cls(counted.take(pc.sort_indices(counted, sort_keys=keys)))

    def first(self, most: int | None) -> Vocabulary:
        """The first so many values (None: all)."""
        return Vocabulary((self.table if most is None else self.table[:most]).combine_chunks())

    def merged(self, other: Vocabulary) -> Vocabulary:
        """The values of both, each as often as it was met in both; DataError as in `fit`."""
        try:
            both = pa.concat_tables([self.table, other.table], promote_options="permissive")
            summed = both.group_by(self._names, use_threads=False).aggregate([("rows", "sum")])
            summed = summed.select([*self._names, "rows_sum"])
            return self._ordered(summed.rename_columns([*self._names, "rows"]))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            types = f"{self.table.schema.types[:-1]} and {other.table.schema.types[:-1]}"
            raise DataError(f"keys of types {types} cannot be compared: {error}") from error

    def rows(self, parts: Sequence[pa.Array]) -> Rows:
        """The number of each row's value, −1 for values not in the vocabulary."""
        count = len(parts[0])
        if not self.size:
            return np.full(count, -1, dtype=np.int32)
        kept, met = self._codes(parts[0], self.table.column(0))
        for name, part in zip(self._names[1:], parts[1:], strict=True):
            kept_part, met_part = self._codes(part, self.table[name])
            kept, met = _paired(kept, kept_part, met, met_part)
        position = np.full(int(kept.max()) + 2, -1, dtype=np.int32)
        position[kept] = np.arange(self.size, dtype=np.int32)
        return position[met]  # the last entry stands for −1: not in the vocabulary

    @staticmethod
    def _codes(part: pa.Array, column: pa.ChunkedArray) -> tuple[Rows, Rows]:
        """Small numbers for the values of a part: those of the vocabulary, those met (−1: new)."""
        part, values = _comparable(plain(part), column.combine_chunks())
        distinct = pc.unique(values)
        return _positions(values, distinct), _positions(part, distinct)

    def value(self, parts: Sequence[pa.Array], row: int) -> str:
        """The key of one row as text, for messages."""
        return _text([p[row].as_py() for p in parts])

    def describe(self, row: int) -> str:
        """A value of the vocabulary as text."""
        return _text([self.table[n][row].as_py() for n in self._names])


def _text(values: Sequence[object]) -> str:
    shown = ["NULL" if v is None else str(v) for v in values]
    return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"


def _positions(values: pa.Array, distinct: pa.Array) -> Rows:
    index = pc.index_in(values, value_set=distinct, skip_nulls=False).fill_null(-1)
    found: Rows = index.to_numpy(zero_copy_only=False)
    return found


def _paired(kept: Rows, kept_part: Rows, met: Rows, met_part: Rows) -> tuple[Rows, Rows]:
    """One code for each pair of codes of the vocabulary; −1 for pairs it does not have."""
    wide = int(kept_part.max()) + 1
    pairs = kept.astype(np.int64) * wide + kept_part
    distinct, kept = np.unique(pairs, return_inverse=True)
    wanted = met.astype(np.int64) * wide + met_part
    wanted[(met < 0) | (met_part < 0)] = -1
    at = np.minimum(np.searchsorted(distinct, wanted), len(distinct) - 1)
    found = np.where(distinct[at] == wanted, at, -1)
    return kept.astype(np.int32), found.astype(np.int32)


def plain(array: pa.Array) -> pa.Array:
    """The array as one chunk of plain values; equal numbers are equal in all bits."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_floating(array.type):
        array = pc.add(array, pa.scalar(0.0, array.type))  # −0 is 0
        array = pc.if_else(pc.is_nan(array), pa.scalar(float("nan"), array.type), array)
    return array


def _comparable(array: pa.Array, values: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Both in one type; DataError where they have none."""
    if array.type == values.type:
        return array, values
    for change in ((array, values.type), (values, array.type)):
        try:
            cast = change[0].cast(change[1])
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
        return (cast, values) if change[0] is array else (array, cast)
    raise DataError(f"keys are {values.type} in the model, {array.type} here")


@dataclass(frozen=True)
class Standard:
    """Mean and standard deviation of a number; a constant's standard deviation is 1."""

    mean: float
    std: float

    @classmethod
    def fit(cls, arrays: Iterable[Floats]) -> Standard:
        """Of all finite values of the arrays; 0 and 1 where there are none."""
        whole = np.concatenate([a[np.isfinite(a)] for a in arrays])
        if not len(whole):
            return cls(0.0, 1.0)
        largest = float(np.abs(whole).max()) or 1.0
        scaled = whole / largest  # squares of large numbers stay finite
        if scaled.min() == scaled.max():
            return cls(float(whole[0]), 1.0)
        std = float(scaled.std())
        return cls(float(scaled.mean()) * largest, std * largest if std > 1e-12 else 1.0)

    def encode(self, values: Floats) -> Floats:
        """(standardised value, missing); NaN stands for missing. Shape (rows, 2)."""
        missing = np.isnan(values)
        return np.stack([np.where(missing, 0, (values - self.mean) / self.std), missing], axis=1)


@dataclass(frozen=True)
class Period:
    """The stretch of time that training rows cover, in microseconds since 1970."""

    start: int
    length: int

    @classmethod
    def fit(cls, arrays: Iterable[npt.NDArray[np.datetime64]]) -> Period:
        """From the first to the last instant; at least one day, so that one instant has a scale."""
        whole = np.concatenate([a[~np.isnat(a)] for a in arrays]).astype(np.int64)
        if not len(whole):
            return cls(0, _DAY)
        length = int(whole.max()) - int(whole.min())
        return cls(int(whole.min()), length or _DAY)

    def encode(self, times: npt.NDArray[np.datetime64]) -> Floats:
        """Ten numbers for each instant; NaT stands for missing. Shape (rows, 10).

        Position in the period (0 … 1 for training rows), sine and cosine of the time of day, the
        day of the week, the day of the month and the day of the year, all in UTC, and whether it is
        missing (then all else is 0).
        """
        missing = np.isnat(times)
        known = np.where(missing, np.datetime64(0, "us"), times)
        micros = known.astype(np.int64)
        clock = micros % _DAY / _DAY
        days, of_row = np.unique(micros // _DAY, return_inverse=True)
        month, year = (_within(days, unit) for unit in "MY")
        cycles = [
            clock,
            (micros + 3 * _DAY) % (7 * _DAY) / (7 * _DAY),  # 1970 began on a Thursday
            (month[0][of_row] + clock) / month[1][of_row],
            (year[0][of_row] + clock) / year[1][of_row],
        ]
        position = (micros.astype(np.float64) - self.start) / self.length
        waves = [wave(2 * np.pi * c) for c in cycles for wave in (np.sin, np.cos)]
        out = np.stack([position, *waves, missing], axis=1)
        out[missing, :-1] = 0
        return out


def _within(days: npt.NDArray[np.int64], unit: str) -> tuple[Floats, Floats]:
    """For days since 1970: days since their month (M) or year (Y) began, and the length of that."""
    dates = days.view("M8[D]")
    period = dates.astype(f"M8[{unit}]")
    begin, end = period.astype("M8[D]"), (period + 1).astype("M8[D]")
    return (dates - begin).astype(np.float64), (end - begin).astype(np.float64)


def elapsed(seconds: Floats) -> Floats:
    """Eight numbers for each duration; NaN stands for missing. Shape (rows, 8).

    For d = |seconds|: d / (d + s) for s an hour, a day, a week, 30 days and a year (each a logistic
    function of log d, half way at s); log(1 + days) / 8; whether it is negative; whether missing.
    """
    missing = np.isnan(seconds)
    known = np.where(missing, 0, seconds)
    size = np.abs(known)
    shares = [size / (size + s) for s in SCALES]
    return np.stack([*shares, np.log1p(size / 86400) / 8, known < 0, missing], axis=1)


def numbers(array: pa.Array, content: Content) -> Floats:
    """Numbers or booleans in float64, NaN where NULL; DataError where one is not finite."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    wide = array.cast(pa.float64(), safe=False)
    values: Floats = wide.to_numpy(zero_copy_only=False)
    if not np.isfinite(values).all():
        known = wide.is_valid().to_numpy(zero_copy_only=False)
        bad = known & ~np.isfinite(values)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"`{content}` is {values[row]} in {int(bad.sum())} of {len(values)} rows; "
                f"training needs finite numbers. Leave such rows out or make the value NULL, "
                f"e.g. CASE WHEN isfinite({content}) THEN {content} END"
            )
    return values


def instants(array: pa.Array, content: Content) -> npt.NDArray[np.datetime64]:
    """Dates or timestamps in microseconds (UTC), NaT where NULL; DataError for infinite ones."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    days = pa.types.is_date(array.type)
    raw = array.view(pa.int32() if pa.types.is_date32(array.type) else pa.int64())
    known = raw.is_valid().to_numpy(zero_copy_only=False)
    values = raw.fill_null(0).to_numpy(zero_copy_only=False)
    limit = np.iinfo(values.dtype).max
    if (bad := (np.abs(values.astype(np.float64)) >= limit - 1)).any():
        raise DataError(
            f"`{content}` is infinite in {int(bad.sum())} of {len(values)} rows; "
            "leave such rows out or make the value NULL"
        )
    unit = "D" if days and array.type.bit_width == 32 else "ms" if days else array.type.unit
    times = values.astype(np.int64).view(f"M8[{unit}]").astype("M8[us]")
    return np.where(known, times, np.datetime64("NaT", "us"))


def _text_hashes(texts: pa.Array) -> npt.NDArray[np.uint64]:
    """64 bits of BLAKE2b of each text: the same in every process, version and machine."""
    digests = [hashlib.blake2b(w.encode(), digest_size=8).digest() for w in texts.to_pylist()]
    return np.frombuffer(b"".join(digests), dtype="<u8")


def hashes(array: pa.Array) -> npt.NDArray[np.uint64]:
    """64 bits for each value, NULL too: the same in every process, version and machine.

    Equal whole numbers have equal hashes whatever their width.
    """
    array = plain(array)
    kind = array.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_temporal(kind):
        if not pa.types.is_temporal(kind):
            array = array.cast(pa.int64(), safe=False)
        elif kind.bit_width in (32, 64):
            array = array.view(pa.int32() if kind.bit_width == 32 else pa.int64())
        else:
            return _hashed_text(array)
        bits = array.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
    elif pa.types.is_floating(kind):
        filled = array.cast(pa.float64()).fill_null(0.0)
        bits = filled.to_numpy(zero_copy_only=False).view(np.uint64)
    else:
        return _hashed_text(array)
    null = array.is_null().to_numpy(zero_copy_only=False)
    return mixed(np.where(null, np.uint64(0x9E3779B97F4A7C15), bits))


def _hashed_text(array: pa.Array) -> npt.NDArray[np.uint64]:
    try:
        texts = array if pa.types.is_string(array.type) else array.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        texts = pa.array([None if v is None else repr(v) for v in array.to_pylist()], pa.string())
    coded = texts.dictionary_encode(null_encoding="encode")
    known = _text_hashes(coded.dictionary.fill_null("\0NULL"))
    found: npt.NDArray[np.uint64] = known[coded.indices.to_numpy(zero_copy_only=False)]
    return found


def mixed(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): spreads every bit over all."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def keys(step: Step) -> Key | None:
    """The key a step reads, None when it reads none."""
    match step.operation:
        case Lookup(_, key):
            return key
        case Linear(per=Key() as per) | Learned(per=Key() as per):
            return per
    return None


KeySites = dict[str, dict[tuple[int, tuple[Content, ...]], int | None]]
ScalarSites = dict[tuple[str, str], dict[tuple[int, Content], None]]


def sites(plan: Plan) -> tuple[KeySites, ScalarSites]:
    """What is fitted, and on which columns of which spaces.

    By site the keys of vocabularies, each with how many values are kept (None: all); by encoding
    and site the numbers and instants.
    """
    read: KeySites = {}
    scalars: ScalarSites = {}
    for step in plan.steps:
        if (key := keys(step)) is not None:
            read.setdefault(key.site, {})[step.space, key.parts] = key.most
        match step.operation:
            case Encode(encoding, site, content) if encoding != "elapsed":
                scalars.setdefault((encoding, site), {})[step.space, content] = None
    return read, scalars


def origins(plan: Plan, finetune: bool) -> dict[str, Origin]:
    """The pretrained encoder of each site that has one."""
    read = [s.operation for s in plan.steps if isinstance(s.operation, Pretrained)]
    return {term.site: Origin.of(term.encoder, finetune) for term in read}


@dataclass
class Encoders:
    """The fitted state of a plan, by site."""

    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)
    standards: dict[str, Standard] = field(default_factory=dict)
    periods: dict[str, Period] = field(default_factory=dict)
    pretrained: dict[str, Origin] = field(default_factory=dict)

    @classmethod
    def fit(cls, plan: Plan, maps: RowMaps, finetune: bool = False) -> Encoders:
        """Fitted on the rows of `maps` and no others: hand in maps restricted to training rows.

        Steps of one site pool their rows; the same column of the same space counts once. `finetune`
        says whether pretrained text encoders are to be trained. EngineError where one is missing.
        """
        read, scalars = sites(plan)
        out = cls(pretrained=origins(plan, finetune))
        for site, places in read.items():
            columns = [[maps.columns[s, p] for p in parts] for s, parts in places]
            limits = [m for m in places.values() if m is not None]
            most = max(limits) if len(limits) == len(places) else None
            out.vocabularies[site] = Vocabulary.fit(columns, most)
        for (encoding, site), where in scalars.items():
            arrays = [(maps.columns[place], place[1]) for place in where]
            if encoding == "numeric":
                out.standards[site] = Standard.fit(numbers(a, c) for a, c in arrays)
            else:
                out.periods[site] = Period.fit(instants(a, c) for a, c in arrays)
        return out

    def check(self, plan: Plan) -> None:
        """Raise DataError where a plan reads content that nothing was fitted for."""
        for step in plan.steps:
            key, fitted = keys(step), True
            if key is not None:
                fitted, site = key.site in self.vocabularies, key.site
            match step.operation:
                case Encode("numeric", site):
                    fitted = site in self.standards
                case Encode("time", site):
                    fitted = site in self.periods
                case Pretrained() as term:
                    fitted, site = term.site in self.pretrained, term.site
            if not fitted:
                raise DataError(f"nothing was fitted for `{site}`, which the query reads now")

    @property
    def sizes(self) -> dict[str, int]:
        """How many values each vocabulary has."""
        return {site: v.size for site, v in self.vocabularies.items()}

    def state(self) -> dict[str, pa.Table]:
        """One Arrow table for each site: a vocabulary, mean and deviation, a period, an origin."""
        return dict(self._tables())

    def _tables(self) -> Iterator[tuple[str, pa.Table]]:
        for site, vocabulary in self.vocabularies.items():
            yield site, vocabulary.table
        for site, standard in self.standards.items():
            yield site, pa.table({"mean": [standard.mean], "std": [standard.std]})
        for site, period in self.periods.items():
            yield site, pa.table({"start": [period.start], "length": [period.length]})
        for site, origin in self.pretrained.items():
            yield site, pa.Table.from_pylist([vars(origin)])

    @classmethod
    def from_state(cls, tables: Mapping[str, pa.Table]) -> Encoders:
        """The encoders that gave a `state`."""
        out = cls()
        for site, table in tables.items():
            if table.column_names == ["mean", "std"]:
                out.standards[site] = Standard(**table.to_pylist()[0])
            elif table.column_names == ["start", "length"]:
                out.periods[site] = Period(**table.to_pylist()[0])
            elif table.column_names == ["encoder", "reading", "version", "trained"]:
                out.pretrained[site] = Origin(**table.to_pylist()[0])
            elif table.column_names[-1:] == ["rows"]:
                out.vocabularies[site] = Vocabulary(table.combine_chunks())
            else:
                raise DataError(f"`{site}` holds no encoder but columns {table.column_names}")
        return out

    def encoded(self, term: Encode, array: pa.Array) -> Floats:
        """The fixed vectors of a column. Shape (rows, width). Never NaN."""
        match term.encoding:
            case "numeric":
                return self.standards[term.site].encode(numbers(array, term.content))
            case "time":
                return self.periods[term.site].encode(instants(array, term.content))
            case _:
                return elapsed(numbers(array, term.content))
