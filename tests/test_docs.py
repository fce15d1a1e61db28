"""The pages on layers, tasks, provenance and deployment: examples run, what they claim is so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import relann
from relann.algebra.parse import statements
from relann.algebra.statements import CreateLayer
from relann.models.library import FOLDER, definition, definitions, patterns
from relann.schema import Catalog
from tests.models.parity import Data, network

Edge = tuple[int | None, int | None, str]

DOCS = Path(__file__).resolve().parents[1] / "docs"
INDEX = DOCS / "models.md"
PROVENANCE = DOCS / "provenance.md"
TASKS = DOCS / "tasks.md"
DEPLOY = DOCS / "deploy.md"
WALKTHROUGH = DOCS / "walkthrough.md"
AUTOSELECT = DOCS / "autoselect.md"
PAGES = sorted((DOCS / "models").glob("*.md"))
EXAMPLES = [INDEX, PROVENANCE, TASKS, DEPLOY, AUTOSELECT, *PAGES]

_BLOCK = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
_CODE = re.compile(r"`([^`]+)`")


def blocks(page: Path, kind: str = "sql") -> list[str]:
    """The fenced blocks of a page that are marked with exactly this."""
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [b["text"] for b in found if b["kind"] == kind]


def created(page: Path) -> dict[str, str]:
    """The layers that a page's blocks create."""
    found = [s for b in blocks(page) for s in statements(b)]
    return {s.name: s.sql for s in found if isinstance(s, CreateLayer)}


def in_library(name: str) -> bool:
    """Whether a layer is the library's, or a pattern's."""
    return name in definitions() or patterns.definition(name) is not None


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.stem)
@pytest.mark.usefixtures("one_thread")
def test_examples_run(page: Path) -> None:
    """In order, in one database of the page's own."""
    found = blocks(page)
    assert found, "a page has examples"
    with relann.connect() as con:
        for block in found:
            for result in con.each(block):
                assert not result.columns or len(result), f"no rows:\n{block}"
        made = list(con.sql("SHOW TASKS" if page in (TASKS, AUTOSELECT) else "SHOW MODELS"))
    assert made, "a page trains a model, that on tasks creates one"


@pytest.mark.parametrize("task", ["churn", "often"])
def test_the_quoted_answer_is_the_answer(task: str) -> None:
    """Of the first task, and of that with a sample."""
    creates = next(b for b in blocks(TASKS) if f"CREATE TASK {task} " in b)
    with relann.connect() as con:
        con.sql(blocks(TASKS)[0])
        assert f"{con.sql(creates)!r}\n" in blocks(TASKS, "")


@pytest.mark.usefixtures("one_thread")
def test_a_view_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of the page on deployment, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    training, *_ = blocks(DEPLOY)
    with relann.connect("shops.duckdb") as con:
        con.sql(training)
    (program,) = blocks(DEPLOY, "python")
    names: dict[str, Any] = {}
    exec(program, names)
    found = names["plain"].sql("SELECT prediction FROM scores WHERE id = 40").fetchall()
    names["plain"].close()
    assert len(found) == 1


@pytest.mark.usefixtures("one_thread")
def test_the_walkthrough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the folder of Parquet files to predictions, in at most forty lines."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    (setup,) = blocks(WALKTHROUGH, "sql setup")
    with relann.connect() as con:
        con.sql(setup)
    (program,) = blocks(WALKTHROUGH, "python")
    names: dict[str, Any] = {}
    exec(program, names)
    found = blocks(WALKTHROUGH)
    assert sum(len(b.strip().splitlines()) for b in found) <= 40
    with names["session"] as session:
        for block in found:
            for result in session.each(block):
                assert not result.columns or len(result), f"no rows:\n{block}"
        proof = session.explain("mine")
    assert re.search(r"orders\.ordered_at +<= seed\.anchor", proof)


def test_only_known_kinds_of_blocks() -> None:
    """A misspelt mark would leave a block out."""
    kinds = {b["kind"] for p in EXAMPLES for b in _BLOCK.finditer(p.read_text("utf-8"))}
    elsewhere = {"python postgres", "python spark"}
    assert kinds <= {"", "sql", "sql no-run", "python"} | elsewhere


def test_each_layer_has_its_page() -> None:
    """Each file of the library has one, with all layers in it; the index names all of them."""
    index = INDEX.read_text(encoding="utf-8")
    for file in sorted(FOLDER.glob("*.sql")):
        page = DOCS / "models" / f"{file.stem}.md"
        for statement in statements(file.read_text(encoding="utf-8")):
            assert isinstance(statement, CreateLayer)
            assert statement.name in created(page), f"{page.name} quotes {statement.name}"
            assert f"`{statement.name}(" in index, f"the index has {statement.name}"
    assert {p.stem for p in PAGES} == {f.stem for f in FOLDER.glob("*.sql")} | {"patterns"}
    for name in patterns.EXAMPLES:
        assert name in (DOCS / "models" / "patterns.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [INDEX, PROVENANCE, *PAGES], ids=lambda page: page.stem)
def test_quoted_layers_are_the_library_s(page: Path) -> None:
    """A layer under a name of the library is quoted word for word."""
    for name, text in created(page).items():
        if in_library(name):
            assert text == definition(name).rstrip(";")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_copies_change_one_line(page: Path) -> None:
    """Beside their head, which has the new name."""
    quoted = [t for n, t in created(page).items() if in_library(n)]
    copies = {n: t for n, t in created(page).items() if not in_library(n)}
    assert copies, "a page has a layer that is copied and changed"
    for name, text in copies.items():
        assert min(_changed(text, q) for q in quoted) == 1, name


def _changed(text: str, other: str) -> int:
    """How many lines differ after the head."""
    a, b = text.splitlines()[1:], other.splitlines()[1:]
    codes = SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in codes if tag != "equal")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_lines_of_the_query_are_in_it(page: Path) -> None:
    """The right column of the table of equations."""
    text = page.read_text(encoding="utf-8")
    found = re.search(
        r"^\| equation \| line of the query \|\n\|---\|---\|\n((\|.*\n)+)", text, re.M
    )
    assert found, "the page has a table of equations"
    query = _words(" ".join(t for n, t in created(page).items() if in_library(n)))
    for row in found[1].splitlines():
        for code in _CODE.findall(row.rsplit(" | ", 1)[1]):
            assert _words(code) in query, code


def _words(text: str) -> str:
    return " ".join(re.sub(r"--.*", "", text).split())


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Those to files of the project."""
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


EDGES = [(1, 2, "r"), (2, 3, "s"), (3, 1, "r"), (4, 1, "r"), (1, 4, "r"), (2, 5, "s")]
TWICE = (3, 1, "r")

TABLES = """
CREATE TABLE node AS SELECT i AS id, ['a', 'b'][1 + i % 2] AS type,
    [sin(i), cos(i), i / 3, 1, i % 2, 0, -i / 4, cos(2 * i)]::FLOAT[8] AS x FROM range(1, 7) t(i);
CREATE TABLE known AS SELECT i AS id, 'label ' || i % 2 AS label FROM range(1, 5) t(i);
CREATE TABLE edge (src BIGINT, dst BIGINT, rel VARCHAR);
"""


class _Tables(Data):
    """A database as it stands."""

    def __init__(self, edges: Sequence[Edge]) -> None:
        self.connection = relann.connect().connection
        self.connection.execute(TABLES)
        self.connection.executemany("INSERT INTO edge VALUES (?, ?, ?)", edges)
        self.catalog = Catalog(self.connection)
        self.back = {}


def _values(layer: str, edges: Sequence[Edge]) -> Tensor:
    """A layer's rows in the order of ids, with weights that depend on their names only."""
    more = {"label_trick": "known, 8", "hgt": "8, heads => 2", "rgcn_basis": "8, bases => 2"}
    query = f"SELECT id, x FROM relann.{layer}(node, edge, {more.get(layer, '8')})"
    answer = network(_Tables(edges), query).answer()
    assert [key[0] for key in answer.keys] == [1, 2, 3, 4, 5, 6], "each node has a row"
    return answer.values


def _claims() -> dict[str, tuple[str, str]]:
    """What the index says of each layer about self-loops and an edge twice."""
    _, table = INDEX.read_text(encoding="utf-8").split("| layer | self-loop in `edge` |")
    rows = [row.strip("| ").split(" | ") for row in table.splitlines() if row.startswith("| `")]
    return {layer.strip("`"): (loop, twice) for layer, loop, twice, _ in rows}


@pytest.mark.parametrize("layer", _claims())
@pytest.mark.usefixtures("one_thread")
def test_odd_rows(layer: str) -> None:
    """The index says what they do."""
    usual = _values(layer, EDGES)

    def same(more: Sequence[Edge]) -> bool:
        return torch.allclose(_values(layer, [*EDGES, *more]), usual, rtol=1e-9, atol=1e-9)

    assert same([(None, 1, "r"), (1, None, "r"), (99, 1, "r"), (1, 99, "s")])
    for claim, more in zip(_claims()[layer], [(1, 1, "r"), TWICE], strict=True):
        assert claim.startswith("ignored" if same([more]) else "counts")


def test_odd_rows_are_told_of_all_layers_with_edges() -> None:
    """Of patterns, of some."""
    with_edges = {n for n, text in definitions().items() if "edge(src," in text.split(" AS")[0]}
    assert with_edges | set(patterns.EXAMPLES) >= set(_claims()) >= with_edges
