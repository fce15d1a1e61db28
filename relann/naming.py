"""What the name of a column suggests: a key, a reference to another table, a time."""

from __future__ import annotations

import re


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


Words = tuple[str, ...]
USUAL = 4
"""Ranks of times below this are those of usual names."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BREAK = re.compile(r"[\W_]+")
_PREFIXES = frozenset({"dim", "fact", "tbl", "tb", "stg", "raw", "vw"})
_IDS = frozenset({"id", "key", "pk", "uuid", "guid", "uid"})
_NUMBERS = frozenset({"no", "nr", "num", "number", "code", "ref"})
_ROWS = frozenset({"row", "index", "idx", "name", "record", "surrogate"})
_IRREGULAR = {"people": "person", "children": "child", "men": "man", "women": "woman"}

# Words for a row of the same table.
_SELF = _set(
    "parent previous prev next root ancestor child predecessor successor original "
    "manager supervisor boss mentor"
)

# Dates that are planned, personal, or of something that befell the row after it was known.
_NOT_SINCE = _set(
    "dob birth birthday birthdate birthdays born death died dod deceased founded foundation "
    "founding established inception expires expire expired expiry expiration exp due deadline end "
    "ends ended ending until till to through stop finish finished scheduled sched schedule planned "
    "plan expected estimated estimate eta target promised required forecast future next valid "
    "effective last latest modified updated update edited changed refreshed accessed seen closed "
    "cancelled canceled deleted removed resolved completed delivered returned shipped paid "
    "approved rejected retired discontinued terminated termination left graduation anniversary "
    "renewal warranty maturity release departure arrival departs arrives start starts"
)
_CREATED = _set("created creation create")
_MADE = _set(
    "inserted insert added recorded registered registration ordered placed posted logged occurred "
    "happened submitted issued"
)
_CLOCK = _set("at on date time datetime timestamp ts dt day")
_EVENT = _set("event transaction txn order observation reading measurement")


def words(name: str) -> Words:
    """The words of a name in lower case, split where case, underscores or blanks say.

    >>> words("OwnerUserId"), words("customer ID"), words("ordered_at")
    (('owner', 'user', 'id'), ('customer', 'id'), ('ordered', 'at'))
    """
    return tuple(w.casefold() for w in _BREAK.split(_CAMEL.sub(" ", name)) if w)


def stem(word: str) -> str:
    """A form that a word's singular and plural share; it need not be a word.

    >>> [stem(w) for w in ("movie", "movies", "match", "matches", "country", "countries")]
    ['movi', 'movi', 'match', 'match', 'countri', 'countri']
    """
    word = _IRREGULAR.get(word, word)
    if len(word) > 3 and word.endswith("es"):
        word = word[:-2]
    else:
        plural = len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
        word = word[:-1] if plural or (len(word) > 3 and word.endswith("e")) else word
    return word[:-1] + "i" if len(word) > 2 and word.endswith("y") else word


_STEMMED_IDS = frozenset(stem(w) for w in _IDS)


def key_rank(column: str, table: str) -> int | None:
    """How much a column looks like its table's key: 0 most, None not at all.

    0 is `id`; 1 the table's name with `id`, `key`, `no` and the like; 2 any other name that ends in
    `id` or `key`.
    """
    found, owner = _stems(column), _owner(table)
    if found in (("id",), ("pk",), ("uuid",), ("guid",)):
        return 0
    for ending in _IDS | _NUMBERS:
        if found == (*owner, stem(ending)) or _squashed(column) in _glued(table, ending):
            return 1
    return 2 if found and found[-1] in _STEMMED_IDS else None


def reference_strength(column: str, table: str, key: str, own: bool) -> tuple[int, int] | None:
    """How much a column's name suggests the key of a table, larger is more; None: not at all.

    `own` says whether the table is the column's own. A name that is the key's in full (`user_id`
    for users.id, `raceId` for races.raceId) suggests it more than one that says a role before
    it (`OwnerUserId`), or that is the table's name alone (`venue` for venue.id).
    """
    found, owner, named = _stems(column), _owner(table), _stems(key)
    if not found or not named:
        return None
    generic = set(named) <= _STEMMED_IDS | {stem(w) for w in _NUMBERS | _ROWS}
    full = {(*owner, *named)} if generic else {named}
    if named[-1] in _STEMMED_IDS:
        full.add((*owner, named[-1]))
    if own:
        role = found[0] in _SELF and (len(found) == 1 or found[-1] in (*_STEMMED_IDS, named[-1]))
        prefixed = any(len(found) > len(f) > 1 and found[-len(f) :] == f for f in full)
        return (1, len(found)) if role or prefixed else None
    glued = generic and _squashed(column) in _glued(table, _squashed(key))
    if found in full or glued:
        belongs = generic or named[: len(owner)] == owner
        return (4 if belongs else 3, len(found))
    if found == owner and (generic or named[: len(owner)] == owner):
        return (2, len(found))
    longest = max((len(f) for f in full if len(f) > 1 and found[-len(f) :] == f), default=0)
    return (2, longest) if longest else None


def time_rank(column: str, table: str) -> int | None:
    """How usual a name is for the time since when a row is known: 0 most; None: it says not so.

    0 says when the row was made (`created_at`, `CreationDate`), 1 the same in other words
    (`ordered_at`), 2 when what it tells of happened (`event_time`, `order_date` of orders,
    `timestamp`), 3 is `date` or `time`, USUAL and above any other name. Dates of birth, of plans,
    of ends and of later changes are None.
    """
    found = words(column)
    if set(found) & _NOT_SINCE or _squashed(column).startswith(("birth", "expir", "valid")):
        return None
    if set(found) & _CREATED:
        return 0
    if set(found) & _MADE:
        return 1
    if found in (("timestamp",), ("ts",), ("datetime",), ("dt",)):
        return 2
    *subject, last = found or ("",)
    if last in _CLOCK and subject:
        if set(subject) <= _EVENT or tuple(stem(w) for w in subject) == _owner(table):
            return 2
        if set(subject) <= _CLOCK:
            return 3
    return 3 if found in (("date",), ("time",), ("day",)) else USUAL


def says_time(column: str) -> bool:
    """Whether a name is that of a date or time, whatever its type."""
    found = words(column)
    return bool(found) and found[-1] in {"date", "time", "datetime", "timestamp", "ts", "at"}


def _stems(name: str) -> Words:
    return tuple(stem(w) for w in words(name))


def _owner(table: str) -> Words:
    found = words(table)
    return tuple(stem(w) for w in (found[1:] if found[:1] and found[0] in _PREFIXES else found))


def _squashed(name: str) -> str:
    return "".join(words(name))


def _glued(table: str, ending: str) -> set[str]:
    """`userid` for users: names that show no break between their words."""
    plain = _squashed(table)
    return {form + ending for form in (plain, plain.removesuffix("s"), plain.removesuffix("es"))}
