"""Golden files: queries with the text they must give, in one readable file.

A file holds cases of the form::

    -- case: name
    SELECT …;
    -- | expected text, line by line

`RELANN_UPDATE_GOLDEN=1 pytest` rewrites the expected text; read the difference before committing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CASES = Path(__file__).parent / "cases"


@dataclass
class Case:
    """One query and the text it must give."""

    name: str
    sql: str
    expected: str


def read(file: str) -> list[Case]:
    """The cases of a golden file, in order."""
    cases: list[Case] = []
    for line in (CASES / file).read_text().splitlines():
        if line.startswith("-- case: "):
            cases.append(Case(line.removeprefix("-- case: "), "", ""))
        elif line.startswith("-- |"):
            cases[-1].expected += line.removeprefix("-- |").removeprefix(" ") + "\n"
        elif cases:
            cases[-1].sql += line + "\n"
    for case in cases:
        case.sql = case.sql.strip().removesuffix(";")
    return cases


def check(file: str, name: str, render: Callable[[str], str]) -> None:
    """Compare what a case's query gives with the file, or rewrite the file when asked to."""
    cases = read(file)
    (case,) = [c for c in cases if c.name == name]
    actual = "\n".join(line.rstrip() for line in render(case.sql).strip("\n").splitlines()) + "\n"
    if os.environ.get("RELANN_UPDATE_GOLDEN"):
        case.expected = actual
        _write(file, cases)
    assert actual == case.expected


def _write(file: str, cases: list[Case]) -> None:
    blocks = []
    for case in cases:
        lines = "\n".join(f"-- | {line}".rstrip() for line in case.expected.splitlines())
        blocks.append(f"-- case: {case.name}\n{case.sql};\n{lines}\n")
    (CASES / file).write_text("\n".join(blocks))
