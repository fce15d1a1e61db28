"""Equal values are one object, so equality is identity and shared parts cost once."""

from __future__ import annotations

from typing import Any, ClassVar
from weakref import WeakValueDictionary


class InternedMeta(type):
    """Returns the existing instance when one with equal fields is alive."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        fields = [getattr(made, name) for name in made.__dataclass_fields__]
        key = (cls, *fields, *map(type, fields))  # types too: 1, 1.0 and True are equal
        return cls._alive.setdefault(key, made)  # type: ignore[attr-defined]


class Interned(metaclass=InternedMeta):
    """Base of frozen dataclasses declared with `eq=False` and hashable fields."""

    _alive: ClassVar[WeakValueDictionary[tuple[Any, ...], Any]] = WeakValueDictionary()
