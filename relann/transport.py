"""A kept model as a folder, to be taken to another database or read by another program.

    model.json           what it is: format, versions, options, metrics, curve, what it reads
    model.sql            the statement that created it
    weights.safetensors  parameters and running statistics by name
    state/0.arrow …      what was fitted beside them, one Arrow IPC stream each; model.json says
                         which is whose. The trees of head = 'gbdt' are here
    SHA256SUMS           of all other files, as `sha256sum -c SHA256SUMS` reads them

Nothing in it is a program: reading a folder runs no code of its own. Its definition is a query,
though, and runs on the database that it is brought into.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from relann.algebra.parse import statements
from relann.algebra.statements import CreateModel
from relann.errors import DataError, QueryError
from relann.models.options import Options
from relann.models.tasks import Task
from relann.provenance.parameters import from_bytes, to_bytes
from relann.store import ModelRecord, table_from_bytes, table_to_bytes
from relann.version import VERSION

FORMAT = 1
KIND = "relann model"
MANIFEST, DEFINITION, WEIGHTS, SUMS = (
    "model.json",
    "model.sql",
    "weights.safetensors",
    "SHA256SUMS",
)
_SUM = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_STATE = re.compile(r"state/\d+\.arrow")


class _Manifest(BaseModel):
    """What model.json holds beside `kind` and `format`; times are UTC."""

    model_config = ConfigDict(strict=True, extra="ignore")

    name: str
    version: int
    relann_version: str
    created_at: str
    options: dict[str, Any]
    metrics: dict[str, Any]
    curve: list[dict[str, Any]]
    info: dict[str, Any]
    schema_hash: str
    parameters: int
    state: dict[str, str]
    task: dict[str, str] | None = None


def write_folder(record: ModelRecord, folder: Path, task: Task | None = None) -> None:
    """Write a model into a new folder, or into an empty one; all of it or nothing.

    `task` is the one it was trained for, told for information. Raises DataError where there is
    something already, or where nothing can be written.
    """
    folder = folder.expanduser()
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise DataError(f"{folder} is there already; a model is exported into a new folder")
    files = _files(record, task)
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        partial = folder.absolute().parent / f".{folder.absolute().name} {uuid4().hex}"
        partial.mkdir()
    except OSError as error:
        raise DataError(f"the model cannot be written to {folder}: {error}") from error
    try:
        for name, data in files.items():
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_bytes(data)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        raise DataError(f"the model cannot be written to {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_folder(folder: Path) -> ModelRecord:
    """The model of a folder that `write_folder` wrote, under the name and version it had.

    Raises DataError, saying why, for a folder that is none of ours, of a newer format, incomplete
    or changed.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} holds no {MANIFEST}, so it is no exported model")
    sums = _sums(folder)
    try:
        told = json.loads(_read(folder, MANIFEST))
    except ValueError as error:
        raise DataError(f"{folder / MANIFEST} is damaged: it is no JSON ({error})") from error
    if not isinstance(told, dict) or told.get("kind") != KIND:
        raise DataError(f"{folder} is no exported model: its {MANIFEST} does not say '{KIND}'")
    if told.get("format") != FORMAT:
        raise DataError(
            f"{folder} is of format {told.get('format')}, written by relann "
            f"{told.get('relann_version', '?')}, and relann {VERSION} reads format {FORMAT}; "
            "import it with the relann that wrote it, or a newer one"
        )
    try:
        manifest = _Manifest.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{folder / MANIFEST} is damaged: {place}: {first['msg']}") from error
    wanted = [MANIFEST, DEFINITION, WEIGHTS, *manifest.state]
    if strange := [n for n in manifest.state if not _STATE.fullmatch(n)]:
        raise DataError(f"{folder / MANIFEST} names a file that is none of ours: {strange[0]}")
    data = {name: _checked(folder, name, sums) for name in wanted}
    return _record(folder, manifest, data)


def schema_hash(reads: Mapping[str, Mapping[str, str]]) -> str:
    """A digest of tables with their columns and types, in whatever order they are told."""
    return sha256(json.dumps(reads, sort_keys=True).encode()).hexdigest()


def _files(record: ModelRecord, task: Task | None) -> dict[str, bytes]:
    """The files of a model, by their place in the folder."""
    sites = {f"state/{i}.arrow": site for i, site in enumerate(record.state)}
    created = None if record.created_at is None else record.created_at.isoformat()
    told = {
        "kind": KIND,
        "format": FORMAT,
        "relann_version": record.relann_version,
        "name": record.name,
        "version": record.version,
        "created_at": created or "",
        "options": dict(record.options),
        "metrics": dict(record.metrics),
        "parameters": sum(t.numel() for t in record.weights.values()),
        "schema_hash": record.schema_hash or schema_hash(record.info.get("reads", {})),
        "task": None if task is None else {"name": task.name, "definition": task.definition},
        "state": sites,
        "info": dict(record.info),
        "curve": [dict(epoch) for epoch in record.curve],
    }
    files = {
        MANIFEST: (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode(),
        DEFINITION: f"{record.definition.strip()}\n".encode(),
        WEIGHTS: to_bytes(record.weights),
        **{name: table_to_bytes(record.state[site]) for name, site in sites.items()},
    }
    sums = "".join(f"{sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    return {**files, SUMS: sums.encode()}


def _record(folder: Path, manifest: _Manifest, data: Mapping[str, bytes]) -> ModelRecord:
    try:
        definition = data[DEFINITION].decode().strip()
        created = datetime.fromisoformat(manifest.created_at) if manifest.created_at else None
        found = statements(definition)
        Options.model_validate(manifest.options)
    except (ValueError, QueryError) as error:
        raise DataError(f"relann {VERSION} cannot read the model of {folder}: {error}") from error
    if len(found) != 1 or not isinstance(found[0], CreateModel):
        raise DataError(f"{folder / DEFINITION} is not one CREATE MODEL statement")
    if lacking := [k for k in ("best_epoch", "rows", "reads", "layers") if k not in manifest.info]:
        raise DataError(f"{folder / MANIFEST} is damaged: its info lacks {', '.join(lacking)}")
    try:
        weights = from_bytes(data[WEIGHTS])
    except DataError as error:
        raise DataError(f"{folder / WEIGHTS} is damaged: {error}") from error
    return ModelRecord(
        name=manifest.name,
        version=manifest.version,
        definition=definition,
        options=manifest.options,
        metrics=manifest.metrics,
        curve=manifest.curve,
        info=manifest.info,
        schema_hash=manifest.schema_hash,
        weights=dict(sorted(weights.items())),
        state={
            site: table_from_bytes(data[name], str(folder / name))
            for name, site in manifest.state.items()
        },
        created_at=created,
        relann_version=manifest.relann_version,
    )


def _sums(folder: Path) -> dict[str, str]:
    """The checksums by file."""
    lines = _read(folder, SUMS).decode(errors="replace").splitlines()
    found = [_SUM.fullmatch(line) for line in lines]
    if not all(found):
        raise DataError(f"{folder / SUMS} is damaged: it is no list of checksums")
    return {m[2]: m[1] for m in found if m is not None}


def _checked(folder: Path, name: str, sums: Mapping[str, str]) -> bytes:
    """The contents of a file that is as it was written."""
    data = _read(folder, name)
    if sha256(data).hexdigest() != sums.get(name):
        raise DataError(
            f"{folder / name} does not match its checksum in {SUMS}: the folder is damaged or was "
            "changed by hand"
        )
    return data


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{folder} is incomplete: it has no {name}") from error
    except OSError as error:
        raise DataError(f"{folder / name} cannot be read: {error}") from error
