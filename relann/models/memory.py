"""How much memory row maps may take: what an option says, or what the machine has left."""

from __future__ import annotations

import re
from pathlib import Path

_UNITS = {
    "": 1, "b": 1, "byte": 1, "bytes": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*|%)\s*", re.IGNORECASE)
_SHARE = 0.5  # of what is available: activations, gradients and the database need the other half


def parsed_limit(text: str) -> tuple[float, str]:
    """The number and the unit in lower case: bytes of '2GB' or '1.5 GiB', a share of '50%'.

    ValueError for anything else.
    """
    found = _WRITTEN.fullmatch(text)
    if found is not None and float(found[1]) > 0:
        unit = found[2].lower()
        if unit == "%" and float(found[1]) <= 100:
            return float(found[1]) / 100, "%"
        if unit in _UNITS and unit:
            return float(found[1]) * _UNITS[unit], "b"
    raise ValueError(text)


def limit(text: str | None, otherwise: str) -> int:
    """Bytes that an option allows: a percentage is of what is available now, None half of it.

    Where the system does not tell what is available, that is `otherwise`, a size in words.
    """
    number, unit = (_SHARE, "%") if text is None else parsed_limit(text)
    if unit == "b":
        return int(number)
    found = available()
    return int(number * (parsed_limit(otherwise)[0] if found is None else found))


def available(root: Path = Path("/")) -> int | None:
    """Bytes that may still be taken, by this system and by the control groups this process is in.

    None where the system does not tell: it is Linux that does. Memory that only caches files counts
    as available.
    """
    found = [_of_system(root), *_of_groups(root)]
    known = [n for n in found if n is not None]
    return max(0, min(known)) if known else None


def _of_system(root: Path) -> int | None:
    text = _text(root / "proc/meminfo")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text or "", re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


def _of_groups(root: Path) -> list[int]:
    """What each control group leaves, version 2 and version 1, from the process's own upwards."""
    out = []
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        here = Path(path.lstrip("/"))
        for folder in (here, *here.parents):
            left = _left(top / folder, *names)
            if left is not None:
                out.append(left)
    return out


def _left(folder: Path, most: str, used: str) -> int | None:
    bound, taken = _text(folder / most), _text(folder / used)
    if bound is None or taken is None or not bound.strip().isdigit():  # 'max': there is no bound
        return None
    stat = _text(folder / "memory.stat") or ""
    cached = re.search(r"^(?:total_)?inactive_file (\d+)", stat, re.MULTILINE)
    return int(bound) - int(taken) + (int(cached[1]) if cached else 0)


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def in_words(size: float) -> str:
    """Bytes as people say them: 512 B, 4.1 MB, 1.2 GB."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} B"
