"""EXPORT MODEL and IMPORT MODEL: the same bits elsewhere, and nothing that is not a model."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

import relann
from relann import DataError, QueryError, Session
from relann.transport import read_folder
from tests.processes import NETWORK, TABLE, TREES, predictions


@pytest.fixture
def con() -> Session:
    """A session with a table and two models."""
    session = relann.connect()
    session.sql(f"{TABLE}; {NETWORK}; {TREES}")
    return session


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network, exported once."""
    place = tmp_path_factory.mktemp("exported") / "net"
    with relann.connect() as con:
        con.sql(f"{TABLE}; {NETWORK}; EXPORT MODEL net TO '{place}'")
    return place


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(exported, tmp_path / "net"))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("model", ["net", "tree"])
def test_the_same_bits_elsewhere(con: Session, tmp_path: Path, model: str) -> None:
    """Under another name, with all that is known of it."""
    said = con.sql(f"EXPORT MODEL {model}@1 TO '{tmp_path}/new/m'").message
    assert said == f"model `{model}`, version 1: exported to {tmp_path}/new/m"
    with relann.connect(tmp_path / "x.duckdb") as other:
        other.sql(TABLE)
        said = other.sql(f"IMPORT MODEL there FROM '{tmp_path}/new/m'").message
        assert said == f"model `there`, version 1: imported, it was `{model}@1`"
        assert predictions(other, "there") == predictions(con, model)
        for call in ("ml_training_info('{}')", "ml_evaluate('{}')", "ml_to_sql('{}')"):
            assert len(other.sql(f"SELECT * FROM {call.format('there')}"))
        mine, theirs = con.store.model(model), other.store.model("there")
        for part in ("definition", "options", "metrics", "curve", "info", "schema_hash", "state"):
            assert getattr(mine, part) == getattr(theirs, part)


def test_other_programs_read_it(folder: Path) -> None:
    """Plain files, with checksums in the usual form; no pickle."""
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    sums = dict(
        reversed(line.split("  ", 1)) for line in (folder / "SHA256SUMS").read_text().splitlines()
    )
    assert set(sums) == names - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "net.linear_0.weight" in load_file(folder / "weights.safetensors")
    assert (folder / "model.sql").read_text() == f"{NETWORK}\n"
    told = json.loads((folder / "model.json").read_text())
    assert (told["kind"], told["format"], told["name"]) == ("relann model", 1, "net")
    assert told["info"]["reads"] == {
        '"t"': {"id": "BIGINT", "a": "BIGINT", "y": "DOUBLE", "k": "VARCHAR"}
    }


def test_nothing_is_overwritten(con: Session, folder: Path) -> None:
    """No folder, and no model but as a new version."""
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for there in (folder, folder / "model.sql"):
        with pytest.raises(DataError, match="is there already"):
            con.sql(f"EXPORT MODEL tree TO '{there}'")
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(
        QueryError, match=r"`net` exists already .*IMPORT OR REPLACE MODEL, adds a version"
    ):
        con.sql(f"IMPORT MODEL net FROM '{folder}'")
    assert "version 2" in con.sql(f"IMPORT OR REPLACE MODEL net FROM '{folder}'").message
    assert predictions(con, "net@1") == predictions(con, "net@2")
    (folder.parent / "empty").mkdir()
    con.sql(f"EXPORT MODEL tree TO '{folder.parent}/empty'")
    assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".")] == []


def test_a_model_that_is_not_trained(con: Session, tmp_path: Path) -> None:
    """Travels as well."""
    con.sql(NETWORK.replace("epochs = 3", "train = false").replace("MODEL net", "MODEL bare"))
    con.sql(f"EXPORT MODEL bare TO '{tmp_path}/m'; IMPORT MODEL again FROM '{tmp_path}/m'")
    with pytest.raises(QueryError, match="defined but not trained"):
        con.sql("SELECT * FROM ml_predict('again')")


def changed(folder: Path, **changes: object) -> None:
    """Change model.json as one who knows how would, with its checksum."""
    told = json.loads((folder / "model.json").read_text()) | changes
    text = json.dumps({k: v for k, v in told.items() if v is not None})
    old = hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()
    (folder / "model.json").write_text(text)
    sums = (folder / "SHA256SUMS").read_text()
    fresh = hashlib.sha256(text.encode()).hexdigest()
    (folder / "SHA256SUMS").write_text(sums.replace(old, fresh))


def rewritten(folder: Path, name: str, data: bytes) -> None:
    """Change a file with its checksum."""
    old = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / name).write_bytes(data)
    sums = (folder / "SHA256SUMS").read_text()
    (folder / "SHA256SUMS").write_text(sums.replace(old, hashlib.sha256(data).hexdigest()))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (shutil.rmtree, "there is no folder"),
        (lambda f: (f / "model.json").unlink(), "holds no model.json, so it is no exported model"),
        (lambda f: (f / "SHA256SUMS").unlink(), "is incomplete: it has no SHA256SUMS"),
        (lambda f: (f / "SHA256SUMS").write_text("what"), "is no list of checksums"),
        (lambda f: (f / "state" / "0.arrow").unlink(), "is incomplete: it has no state/0.arrow"),
        (lambda f: (f / "weights.safetensors").write_bytes(b"x"), "does not match its checksum"),
        (lambda f: (f / "model.sql").write_text("DROP TABLE t"), "does not match its checksum"),
        (lambda f: (f / "model.json").write_text("{"), "is damaged: it is no JSON"),
        (lambda f: changed(f, kind="other"), "is no exported model: its model.json does not say"),
        (lambda f: changed(f, format=2, relann_version="9.0"), "format 2, written by relann 9.0"),
        (lambda f: changed(f, version="one"), "model.json is damaged: version: Input should be"),
        (lambda f: changed(f, curve=None), "model.json is damaged: curve: Field required"),
        (lambda f: changed(f, info={}), "its info lacks best_epoch, rows, reads, layers"),
        (lambda f: changed(f, options={"lr": -1}), "cannot read the model"),
        (lambda f: changed(f, state={"../x": "(head)"}), "a file that is none of ours: ../x"),
        (lambda f: changed(f, state={}), r"`net@1` is incomplete: it lacks '\(head\)'"),
        (lambda f: rewritten(f, "model.sql", b"DROP TABLE t"), "is not one CREATE MODEL statement"),
        (lambda f: rewritten(f, "weights.safetensors", b"x"), "weights.safetensors is damaged"),
        (lambda f: rewritten(f, "state/0.arrow", b"x"), "state/0.arrow is damaged"),
    ],
)
def test_other_folders_are_refused(
    folder: Path, harm: Callable[[Path], object], message: str
) -> None:
    """With the reason, and without a trace in the database."""
    harm(folder)
    con = relann.connect()
    con.sql(TABLE)
    with pytest.raises(DataError, match=message):
        con.sql(f"IMPORT MODEL new FROM '{folder}'")
    assert not con.sql("SHOW MODELS").fetchall()
    assert len(con.sql("SELECT * FROM t")) == 120


def test_a_database_it_does_not_fit(folder: Path) -> None:
    """Says what is missing or other."""
    with relann.connect() as con:
        with pytest.raises(DataError, match=r'`net@1` does not fit (.|\n)*there is no table "t"'):
            con.sql(f"IMPORT MODEL m FROM '{folder}'")
        con.sql("CREATE TABLE t AS SELECT 1 AS id, DATE '2020-01-01' AS a, 1.5 AS y, 'u' AS k")
        with pytest.raises(DataError, match='`a` of "t" is DATE and was BIGINT'):
            con.sql(f"IMPORT MODEL m FROM '{folder}'")


def test_files_may_be_forbidden(con: Session, folder: Path) -> None:
    """DuckDB's own setting holds for folders of models."""
    con.sql("SET enable_external_access = false")
    for text in (f"EXPORT MODEL net TO '{folder}2'", f"IMPORT MODEL n FROM '{folder}'"):
        with pytest.raises(DataError, match="`enable_external_access` is false"):
            con.sql(text)


def test_duckdb_s_own_statements(con: Session, tmp_path: Path) -> None:
    """EXPORT DATABASE takes the models with it."""
    before = predictions(con, "net", "tree")
    con.sql(f"EXPORT DATABASE '{tmp_path}/all' (FORMAT parquet)")
    with relann.connect() as other:
        other.sql(f"IMPORT DATABASE '{tmp_path}/all'")
        assert predictions(other, "net", "tree") == before


def test_read_folder_gives_what_was_kept(con: Session, tmp_path: Path) -> None:
    """Without a database."""
    con.sql(f"EXPORT MODEL net TO '{tmp_path}/m'")
    record, kept = read_folder(tmp_path / "m"), con.store.model("net")
    assert (record.name, record.version, record.relann_version) == ("net", 1, relann.__version__)
    assert (record.created_at, record.schema_hash) == (kept.created_at, kept.schema_hash)
    assert record.schema_hash
