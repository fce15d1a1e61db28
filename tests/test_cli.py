"""The command line: what it prints, what it says when something fails, how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import types

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console
from typer.testing import CliRunner

from relann import cli, connect, doctor
from relann.version import VERSION


@pytest.fixture
def relann(monkeypatch):
    """Runs a command line; gives exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments, typed=""):
        done = CliRunner().invoke(cli.app, [str(a) for a in arguments], input=typed)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "model.sql"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_version(relann):
    assert relann("--version") == (0, f"relann {VERSION}\n", "")


def test_no_command_shows_help(relann):
    _, out, err = relann()
    assert all(command in out + err for command in ("run", "shell", "explain", "demo"))


class TestRun:
    def test_prints_every_result(self, relann, file, tmp_path):
        path = file("CREATE TABLE t AS SELECT 42 AS a; -- b\nSELECT a, 'ü[b]' AS s FROM t;\n")
        code, out, err = relann("run", path, "--db", tmp_path / "x.duckdb")
        assert (code, err) == (0, "")
        assert "created with 1 row" in out and "42" in out and "ü[b]" in out
        with connect(tmp_path / "x.duckdb") as con:
            assert con.sql("FROM t").fetchall() == [(42,)]

    def test_stops_at_the_first_error(self, relann, file):
        path = file("SELECT 41 AS a;\n\nSELECT nope\nFROM range(3);\nSELECT 43 AS a;")
        code, out, err = relann("run", path)
        assert code == 1 and "41" in out and "43" not in out
        assert err.startswith(f"{path}: QueryError: line 3, column 8: ")
        assert err.endswith("    SELECT nope\n           ^^^^\n")

    def test_a_mistake_in_our_statements_is_found_before_anything_runs(self, relann, file):
        code, out, err = relann("run", file("SELECT 41 AS a; CREATE MODEL m"))
        assert (code, out) == (1, "") and "expected OPTIONS (…) or AS" in err

    def test_standard_input(self, relann):
        code, out, _ = relann("run", "-", typed="SELECT 44 AS a")
        assert code == 0 and "44" in out

    def test_what_cannot_be_read(self, relann, tmp_path):
        (tmp_path / "bytes").write_bytes(b"SELECT '\xff'")
        for path, reason in [
            (tmp_path / "none.sql", "No such file"),
            (tmp_path / "bytes", "not a text in UTF-8"),
            (tmp_path, "directory"),
        ]:
            code, out, err = relann("run", path)
            assert (code, out) == (1, "") and err.startswith(f"{path}: ") and reason in err

    def test_what_cannot_be_opened(self, relann, file, tmp_path):
        code, _, err = relann("run", file("SELECT 1"), "--db", tmp_path)
        assert code == 1 and "EngineError: cannot open database" in err

    def test_a_mark_at_the_beginning_is_no_text(self, relann, tmp_path):
        (tmp_path / "a.sql").write_text("SELECT 45 AS a", encoding="utf-8-sig")
        assert relann("run", tmp_path / "a.sql")[0] == 0


class TestExplain:
    QUERY = "SELECT id, linear(x, 2) AS z FROM t"

    def test_query(self, relann, tmp_path):
        with connect(tmp_path / "x.duckdb") as con:
            con.sql("CREATE TABLE t AS SELECT 1 AS id, 2.0 AS x")
        code, out, err = relann("explain", self.QUERY, "--db", tmp_path / "x.duckdb")
        assert (code, err) == (0, "") and "linear" in out

    def test_file_changes_nothing(self, relann, file, tmp_path):
        path = file(
            "CREATE TABLE t AS SELECT 1 AS id, 2.0 AS x;\n"
            "CREATE LAYER twice(r, n = 3) AS SELECT id, linear(x, n) AS z FROM r;\n"
            "CREATE MODEL m OPTIONS (label = 'x') AS SELECT id, linear(z, 2) AS y FROM twice(t);\n"
        )
        code, out, err = relann("explain", path, "--db", tmp_path / "x.duckdb")
        assert (code, err) == (0, "") and "linear" in out
        with connect(tmp_path / "x.duckdb") as con:
            assert len(con.sql("SHOW TABLES")) == len(con.store.layers()) == 0

    def test_mistakes(self, relann, file):
        code, _, err = relann("explain", "nothing_of_the_kind")
        assert code == 1 and "no model is called `nothing_of_the_kind`" in err
        path = file("SELECT 1;\nCREATE MODEL m AS SELECT FROM")
        code, _, err = relann("explain", path)
        assert code == 1 and err.startswith(f"{path}: QueryError: line 2")


class TestShell:
    def test_statements_may_take_several_lines(self, relann):
        typed = "SELECT 40\n + 6 AS a;\n\nSELECT 'x;\ny' AS b; SELECT 47 AS c\n;SELECT 48 AS d"
        code, out, err = relann("shell", typed=typed)
        assert (code, err) == (0, "")
        assert all(text in out for text in ("46", "x; y", "47", "48"))

    def test_goes_on_after_an_error_and_tells_in_the_end(self, relann):
        code, out, err = relann("shell", typed="SELECT nope;\nSELECT 'a;\nb' AS a;\nSELECT 49;")
        assert code == 1 and "QueryError: line 1, column 8" in err and "49" in out

    def test_commands(self, relann, tmp_path):
        typed = (
            "CREATE TABLE shown (a INT);\nCREATE LAYER f() AS SELECT 1;\n.tables\n.layers\n"
            ".models\n.help\n.tabels\n.quit\nSELECT 'afterwards';"
        )
        code, out, err = relann("shell", "--db", tmp_path / "x.duckdb", typed=typed)
        assert code == 0 and "shown" in out and "base table" in out and "CREATE LAYER f()" in out
        assert "version" in out and ".help" in out and "afterwards" not in out
        assert "Did you mean `.tables`?" in err

    def test_last_statement_may_fail_without_semicolon(self, relann):
        code, _, err = relann("shell", typed="SELECT nope")
        assert code == 1 and "nope" in err

    def test_an_interrupt_forgets_what_is_typed(self, capsys):
        lines = iter(["SELECT nope,", KeyboardInterrupt, "SELECT 51 AS a;"])
        prompts = []

        def read(prompt):
            prompts.append(prompt)
            line = next(lines, EOFError)
            if not isinstance(line, str):
                raise line
            return line

        with connect() as con:
            assert not cli._converse(con, Console(), read, interactive=True)
        shown = capsys.readouterr()
        assert "51" in shown.out and "cancelled" in shown.err
        assert prompts == [cli.PROMPT, cli.MORE, cli.PROMPT, cli.PROMPT]

    def test_an_interrupt_cancels_a_running_statement(self):
        with subprocess.Popen(
            [sys.executable, "-c", "from relann.cli import main; main()", "shell"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            # a test run in the background ignores Ctrl-C, and what it starts would as well
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as shell:
            assert shell.stdin is not None and shell.stdout is not None
            shell.stdin.write("SELECT 52 AS a;\n")
            while "1 row" not in shell.stdout.readline():
                pass
            shell.stdin.write("SELECT count(*) FROM range(100000000000) a, range(99) b;\n")
            time.sleep(1)
            shell.send_signal(signal.SIGINT)
            out, _ = shell.communicate("SELECT 53 AS b;\n", timeout=30)
        assert "cancelled" in out and "53" in out and "Traceback" not in out
        assert shell.returncode == 0

    def test_prompt_toolkit_keeps_a_history(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        with (
            create_pipe_input() as keys,
            create_app_session(input=keys, output=DummyOutput()),
        ):
            read = cli._reader(interactive=True)
            keys.send_text("SELECT 54;\n")
            assert read("> ") == "SELECT 54;"
        assert "+SELECT 54;" in (tmp_path / ".relann_history").read_text()

    def test_no_place_for_a_history(self, monkeypatch, tmp_path):
        (tmp_path / "file").touch()
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
        with (
            create_pipe_input() as keys,
            create_app_session(input=keys, output=DummyOutput()),
        ):
            keys.send_text("SELECT 55;\n")
            assert cli._reader(interactive=True)("> ") == "SELECT 55;"

    def test_without_prompt_toolkit(self, monkeypatch):
        monkeypatch.setattr(cli, "PromptSession", None)
        assert cli._reader(interactive=True) is input


def test_demo_is_that_of_its_module(relann, monkeypatch):
    called = []
    flights = types.SimpleNamespace(main=lambda: called.append(True))
    monkeypatch.setitem(sys.modules, "relann.demo.flights", flights)
    assert relann("demo")[0] == 0 and called == [True]


def test_main_is_the_program(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["relann", "--version"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 0 and VERSION in capsys.readouterr().out


def test_bench_needs_a_checkout(relann, tmp_path, monkeypatch):
    """Benchmarks are in the source, not in the package."""
    monkeypatch.chdir(tmp_path)
    code, _, said = relann("bench", "speed")
    assert code != 0
    assert "run this in the folder of a checkout" in said
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "speed.py").write_text("print('measured')")
    assert "Did you mean `speed`?" in relann("bench", "sped")[2]
    assert relann("bench", "speed")[0] == 0


class TestDoctor:
    def test_says_what_runs_and_what_to_install(self, relann, monkeypatch):
        monkeypatch.setattr(doctor.devices, "missing", lambda choice: None)
        monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: False)
        lacks = {"cudf": "cudf is not installed; pip install 'relann[gpu]'"}
        monkeypatch.setattr(doctor.choice, "missing", lacks.get)
        monkeypatch.setattr(doctor.Piece, "version", property(lambda piece: None))
        code, out, err = relann("doctor")
        assert (code, err) == (0, "")
        told = " ".join(out.replace("│", " ").split())
        assert f"relann {VERSION}, Python" in told
        assert "lightgbm pip install 'relann[gbdt]' head = 'gbdt'" in told
        assert "duckdb missing: reinstall" in told
        assert "cudf is not installed; pip" in told
        assert [f.name for f in doctor.engines() if f.missing is None] == ["duckdb", "pandas"]

    def test_an_engine_that_cannot_be_had_ends_the_command(self, relann, file):
        path = file("SELECT 1 AS a")
        code, out, _ = relann("run", path, "--engine", "pandas", "--device", "auto")
        assert code == 0 and "1" in out
        code, _, err = relann("run", path, "--engine", "cuda")
        assert code == 1 and "no engine is called 'cuda'" in err
