"""`text` with a pretrained encoder and of whole rows, from the statement to the prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pytest
import torch

import relann
from relann import DataError, QueryError, Session
from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.lower import lower
from relann.algebra.nodes import Map
from relann.algebra.rowmaps import build
from relann.algebra.terms import Tokens
from relann.provenance.encoders import Encoders
from relann.provenance.module import QueryModule
from relann.provenance.pretrained import load
from tests import encoders
from tests.fixtures import bound, papers
from tests.test_meaning import check_everywhere


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small transformer, shared by tests that leave it alone."""
    return encoders.transformer(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def con() -> Session:
    """A session on the citation graph; some titles are NULL, some blank."""
    session = relann.connect(papers())
    session.sql("UPDATE paper SET title = NULL WHERE id % 10 = 3")
    session.sql("UPDATE paper SET title = ' ' WHERE id % 10 = 4")
    return session


def model(call: str, options: str = "") -> str:
    """A model over the papers with one call of `text`."""
    return (
        f"CREATE OR REPLACE MODEL m OPTIONS (label = 'label', split = 'split', epochs = 2{options})"
        f" AS SELECT p.id, p.label, p.split, linear(relu({call}), 3) AS logits FROM paper p"
    )


def predicted(con: Session) -> list[tuple]:
    """Everything that is predicted."""
    return con.sql("SELECT id, scores FROM ml_predict('m') ORDER BY id").fetchall()


@dataclass
class Papers:
    """The citation graph cut small, as a database of the property tests."""

    def connect(self) -> duckdb.DuckDBPyConnection:
        con = papers()
        con.execute("DELETE FROM paper WHERE id >= 20; DELETE FROM cites WHERE src + dst > 60")
        con.execute("UPDATE paper SET title = NULL WHERE id % 10 = 3")
        con.execute("UPDATE paper SET title = ' ' WHERE id % 10 = 4")
        return con


@pytest.mark.parametrize(
    "query",
    [
        "SELECT p.id, text(p.title, 3, encoder => '{e}') AS z FROM paper p",
        "SELECT p.id, text(p, 3, encoder => '{e}', exclude => [x, seen]) AS z FROM paper p",
        "SELECT p.id, text(p, 3, exclude => [seen]) AS z FROM paper p",
        "SELECT p.id, linear(text(v.name, 3, encoder => '{e}'), 2) AS z "
        "FROM paper p LEFT JOIN venue v ON v.id = p.venue AND p.open",
        "SELECT c.dst, sum(text(p.title, 3, encoder => '{e}', share => 's') * c.w) AS z, "
        "avg(linear(text(p.title, 3, encoder => '{e}', share => 's'), 2)) AS y "
        "FROM cites c JOIN paper p ON p.id = c.src GROUP BY c.dst",
    ],
)
def test_it_runs_as_it_means(encoder: str, query: str) -> None:
    """Values and gradients against the oracle, on every engine, before and after rewriting."""
    check_everywhere(Papers(), query.format(e=encoder))  # type: ignore[arg-type]


def test_null_and_blank_give_the_bias(encoder: str) -> None:
    """Width 2 of a 16-wide encoder: the map is x·W + b with x = 0."""
    con = duckdb.connect()
    con.execute("CREATE TABLE t AS FROM (VALUES (1, 'a bike'), (2, NULL), (3, '')) t(id, x)")
    plan = lower(bound(con, f"SELECT id, text(x, 2, encoder => '{encoder}') AS z FROM t"))
    maps = build(plan, DuckDBEngine(con))
    module = QueryModule(plan, Encoders.fit(plan, maps))
    module.load({**module.state(), "m.text_0.bias": torch.tensor([3.0, 4.0])})
    assert {n: tuple(v.shape) for n, v in module.state().items()} == {
        "m.text_0.weight": (16, 2),
        "m.text_0.bias": (2,),
    }
    ((values, valid),) = module(module.bind(maps))
    assert valid is None
    ids = maps.columns[plan.output, dict(plan.contents)["id"]].to_pylist()
    found = dict(zip(ids, values.tolist(), strict=True))
    assert found[2] == found[3] == [3.0, 4.0] != found[1]


def test_a_row_as_text() -> None:
    """Columns in order but keys, label, split, vectors; NULLs left out; a column comes first."""
    con = duckdb.connect()
    con.execute(
        'CREATE TABLE t (id INTEGER PRIMARY KEY, "it\'s" VARCHAR, n DOUBLE, v FLOAT[2], '
        "label VARCHAR, split VARCHAR, day DATE)"
    )
    con.execute("INSERT INTO t VALUES (1, 'a', 1.5, [1, 2], 'x', 'train', '2020-01-02')")
    con.execute("INSERT INTO t VALUES (2, NULL, 2, NULL, 'y', 'val', NULL)")
    con.execute("INSERT INTO t (id) VALUES (3)")

    def said(text: str) -> list[str]:
        node = bound(con, text, hidden=("label", "split"))
        assert isinstance(node, Map)
        (term,) = (v for _, v in node.outputs if isinstance(v, Tokens))
        source = 'SELECT * FROM (SELECT {} FROM t) ORDER BY "t.id"'.format(
            ", ".join(f't."{c}" AS "t.{c}"' for c in ("id", "it's", "n", "label", "split", "day"))
        )
        return [v for (v,) in con.execute(f"SELECT {term.content.sql} FROM ({source})").fetchall()]

    assert said("SELECT id, label, split, text(t, 4) AS z FROM t") == [
        "it's: a; n: 1.5; day: 2020-01-02",
        "n: 2.0",
        "",
    ]
    assert said("SELECT id, label, split, text(t, 4, exclude => [n, day]) AS z FROM t") == [
        *("it's: a", "", "")
    ]
    con.execute("ALTER TABLE t ADD COLUMN t VARCHAR DEFAULT 'column'")
    node = bound(con, "SELECT text(t, 4) AS z FROM t")
    assert isinstance(node, Map) and "CONCAT" not in str(node.outputs[0][1])


@pytest.mark.parametrize("batch", ["", ", batch_size = 16"])
@pytest.mark.parametrize("finetune", ["", ", finetune = true, encoder_lr = 0.001"])
def test_a_reopened_model_predicts_the_same(
    tmp_path: Path, encoder: str, batch: str, finetune: str
) -> None:
    """To the bit; only an encoder that is trained is kept, under the name of its call."""
    file = tmp_path / "m.duckdb"
    call = f"text(p.title, 4, encoder => '{encoder}')"
    with relann.connect(str(file)) as con:
        con.sql(
            "CREATE TABLE paper AS SELECT i AS id, i % 3 AS label, "
            "CASE i % 4 WHEN 0 THEN 'val' ELSE 'train' END AS split, "
            "CASE WHEN i % 5 > 0 THEN 'title ' || i % 7 END AS title FROM range(40) t(i)"
        )
        con.sql(model(call, finetune + batch))
        before = predicted(con)
        con.sql(model(call, finetune + batch))
        assert predicted(con) == before  # same seed, same bits
    with relann.connect(str(file)) as con:
        assert predicted(con) == before
        names = con.sql("SELECT DISTINCT parameter FROM ml_weights('m')").fetchall()
        own = {n for (n,) in names if n.startswith("m.text_0.encoder.")}
        pretrained = load(encoder).network.state_dict()
        assert len(own) == (len(pretrained) if finetune else 0)
        for name in own:
            kept = con.sql(
                f"SELECT value FROM ml_weights('m') WHERE parameter = '{name}' ORDER BY position"
            ).fetchall()
            start = pretrained[name.removeprefix("m.text_0.encoder.")].flatten().numpy()
            trained = not np.array_equal(np.array(kept, dtype=np.float32)[:, 0], start)
            assert trained or ".pooler." in name or "position" in name or "token_type" in name


def test_training_again_encodes_nothing_again(con: Session, encoder: str) -> None:
    """Frozen vectors are kept by text; a new text is encoded, alone."""
    sql = model(f"text(p.title || '!', 4, encoder => '{encoder}')")
    con.sql(sql)
    seen: list[int] = []
    hook = load(encoder).network.register_forward_hook(
        lambda network, given, out: seen.append(len(given[0]["input_ids"]))
    )
    con.sql(sql)
    con.sql("UPDATE paper SET title = 'quite new' WHERE id < 2")
    predicted(con)
    hook.remove()
    assert seen == [1]


def test_another_version_of_the_encoder_is_refused(con: Session, tmp_path: Path) -> None:
    """Under the same name; also one of another width."""
    name = encoders.transformer(tmp_path / "e")
    con.sql(model(f"text(p.title, 4, encoder => '{name}')"))
    before = predicted(con)
    for change in ({"seed": 1}, {"width": 8}):
        encoders.transformer(tmp_path / "e", **change)
        with pytest.raises(DataError, match="is not the one that the model was trained with"):
            predicted(con)
    encoders.transformer(tmp_path / "e")
    assert predicted(con) == before


def test_trained_weights_do_not_follow_the_folder(con: Session, tmp_path: Path) -> None:
    """A model that trained its encoder has the weights it predicts with."""
    name = encoders.transformer(tmp_path / "e")
    con.sql(model(f"text(p.title, 4, encoder => '{name}')", ", finetune = true"))
    before = predicted(con)
    encoders.transformer(tmp_path / "e", seed=1)
    assert predicted(con) == before


def test_a_static_encoder_is_trained_as_well(con: Session, tmp_path: Path) -> None:
    """model2vec's vectors of tokens."""
    name = encoders.static(tmp_path / "e")
    con.sql(model(f"text(p, 4, encoder => '{name}')", ", finetune = true, encoder_lr = 0.01"))
    rows = con.sql(
        "SELECT count(*) FROM ml_weights('m') WHERE parameter = 'm.text_0.encoder.embedding'"
    ).fetchall()
    assert rows == [(len(encoders.WORDS) * 6,)]
    assert len(predicted(con)) == 100


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        ("text(p.title, 4)", ", finetune = true", "the query has none"),
        ("text(p.title, 4)", ", encoder_lr = 0.1", "is for text encoders that are trained"),
        (
            "text(p.title, 4, encoder => '{e}', share => 's') "
            "+ text(p.title, 4, encoder => '{e}/../{last}', share => 's')",
            "",
            "is shared with a call of another encoder",
        ),
    ],
)
def test_mistakes(con: Session, encoder: str, call: str, options: str, message: str) -> None:
    """Said before anything is trained."""
    call = call.format(e=encoder, last=Path(encoder).name)
    with pytest.raises(QueryError, match=message):
        con.sql(model(call, options))


def test_language_model_and_graph_network_are_one_model(
    real_data: Callable[[str], Path], encoder: str
) -> None:
    """Rows as text at the leaves, GraphSAGE over answers, links and authors above: one query."""
    folder = real_data("stack-bicycles-meta")
    con = relann.connect()
    sql = (Path(__file__).parents[1] / "examples" / "posts.sql").read_text()
    for file in ("posts.parquet", "postLinks.parquet"):
        sql = sql.replace(f"'{file}'", f"'{folder / file}'")
    con.sql(sql.replace("all-MiniLM-L6-v2", encoder).replace("epochs = 20", "epochs = 8"))
    curve = con.sql("SELECT loss FROM ml_training_info('good_post') ORDER BY epoch").fetchall()
    assert len(curve) == 8 and min(curve[1:]) < curve[0]
    explained = str(con.sql("EXPLAIN MODEL good_post"))
    assert "'title: '" in explained and "'good: '" not in explained
    found = dict(con.sql("SELECT metric, value FROM ml_evaluate('good_post')").fetchall())
    assert 0.4 < found["auroc"] <= 1
