"""The command line: run a file, talk to a database, explain a model, see the demo."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relann.algebra.engines.choice import DEFAULT
from relann.algebra.lexing import lex, word
from relann.algebra.parse import statements
from relann.algebra.statements import CreateLayer, Passthrough
from relann.autoselect.bank import Bank, summary
from relann.autoselect.settings import Settings
from relann.bank_build import build
from relann.comparison import HEADERS, cells, draw, footer
from relann.comparison import compare as compared
from relann.distributed import Training
from relann.doctor import report
from relann.errors import QueryError, RelannError, did_you_mean, listing
from relann.loading import load
from relann.manifest import relbench_tasks
from relann.models.processes import LostError, joined
from relann.published_tasks import create_published_task
from relann.results import Result
from relann.session import Session, connect
from relann.version import VERSION

try:  # the extra `shell`: editing, history and search at the prompt
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory
except ImportError:
    PromptSession = None  # type: ignore[assignment, misc]

PROMPT, MORE = "relann> ", "   ...> "
INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C
_HISTORY = ".relann_history"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Neural networks over databases, written as SQL queries.",
)
bank = typer.Typer(no_args_is_help=True, help="The bank of trials that the selector learns from.")
app.add_typer(bank, name="bank")
Engine = Annotated[
    str, typer.Option("--engine", help="Who makes row maps: duckdb, cudf or auto; see doctor.")
]
Device = Annotated[
    str, typer.Option("--device", help="Where models are trained and predict: cpu, cuda or auto.")
]
Database = Annotated[
    str, typer.Option("--db", metavar="FILE", help="DuckDB database; made if it is not there.")
]


def main() -> None:
    """The command `relann`."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"relann {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@app.command()
def run(
    file: Annotated[str, typer.Argument(help="SQL file; - reads standard input.")],
    db: Database = ":memory:",
    engine: Engine = DEFAULT,
    device: Device = "cpu",
) -> None:
    """Run the statements of a file and print each result; stop at the first error."""
    text = _read(file)
    with _failing(file), connect(db, engine=engine, device=device) as session:
        for result in session.each(text):
            _print(Console(), result)


@app.command()
def train(
    file: Annotated[str, typer.Argument(help="SQL file.")],
    db: Database,
    engine: Engine = DEFAULT,
    device: Device = "cpu",
) -> None:
    """Run a file where torchrun has started several processes: they train its networks together.

    torchrun --nproc-per-node 2 -m relann train FILE --db DATABASE
    """
    text = _read(file)
    with _failing(""), joined() as team, _failing(file, quiet=team.rank > 0), team.together():
        for result in Training(db, team, engine, device).each(text):
            _print(Console(), result)


@app.command()
def explain(
    query: Annotated[str, typer.Argument(help="SQL file, a query, or a stored model's name.")],
    db: Database = ":memory:",
    analyze: Annotated[bool, typer.Option(help="Run the model once and add times.")] = False,
    engine: Engine = DEFAULT,
    device: Device = "cpu",
) -> None:
    """Show what models do: the lifted query, the rules that fired, the plan. Changes nothing.

    Of a file, tables, views and layers it creates are there while its models are explained.
    """
    file = query if _is_file(query) else ""
    text = _read(file) if file else query
    with _failing(file), connect(db, engine=engine, device=device) as session:
        session.connection.begin()
        try:
            for statement in statements(text):
                created = isinstance(statement, Passthrough) and word(statement.tokens[0])
                if isinstance(statement, CreateLayer) or created == "CREATE":
                    session.sql(statement.sql)
            _print(Console(), Result(message=session.explain(text, analyze)))
        finally:
            session.connection.rollback()


@app.command()
def demo() -> None:
    """Predict late flights from real data with a model that is a query."""
    with _failing(""):
        importlib.import_module("relann.demo.flights").main()


@app.command()
def doctor() -> None:
    """Show what is installed, which engine and device would run, and what to install for more."""
    Console().print(report())


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    name: Annotated[str, typer.Argument(help="speed, kernels, papers or tasks.")],
    context: typer.Context,
) -> None:
    """Measure against other libraries: `relann bench speed DATA`. For a checkout of the source.

    A task of RelBench, `relann bench rel-f1/driver-dnf --data FOLDER`, is one of `tasks`.
    """
    name, arguments = ("tasks", [name, *context.args]) if "/" in name else (name, context.args)
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    known = sorted(p.stem for p in Path("benchmarks").glob("*") if p.stem[0] not in "_.")
    if name not in known:
        with _failing(""):
            raise QueryError(
                f"there is no benchmark `{name}` here; there are {', '.join(known)}."
                + did_you_mean(name, known)
                if known
                else "benchmarks come with the source: run this in the folder of a checkout"
            )
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command()
def compare(
    task: Annotated[str, typer.Option("--task", help="A task of the database, or of --data.")],
    programs: Annotated[
        list[str] | None, typer.Argument(help="SQL files: a query or CREATE MODEL each.")
    ] = None,
    db: Database = ":memory:",
    data: Annotated[
        Path | None, typer.Option("--data", help="A RelBench folder, loaded with its task.")
    ] = None,
    auto: Annotated[bool, typer.Option("--auto", help="Look for a program as well.")] = False,
    budget: Annotated[str, typer.Option(help="Of the search.")] = "5 minutes",
    without: Annotated[
        str | None, typer.Option(help="A database of the bank that the search is to be blind to.")
    ] = None,
    regime: Annotated[str, typer.Option(help="Of a task of --data.")] = "frozen",
    chart: Annotated[
        Path | None, typer.Option("--chart", help="Write a picture: .html, .png, .svg, .pdf.")
    ] = None,
) -> None:
    """Train programs on a task and show validation, test, time and memory side by side."""
    files = programs or []
    with _failing(""), connect(db) as session:
        name = task
        if data is not None:
            load(data, session)
            name = task.rpartition("/")[2].replace("-", "_")
            there = {t.name: t for t in relbench_tasks(data)}
            wanted = task.rpartition("/")[2]
            if wanted not in there:
                hint = did_you_mean(wanted, list(there))
                raise QueryError(f"{data} has no task `{wanted}`; it has {listing(there)}.{hint}")
            create_published_task(session, there[wanted], name, regime)
        settings = Settings(task=name, budget=budget, without=without) if auto else None
        texts = [(Path(file).name, _read(file)) for file in files]
        found = compared(session, name, texts, settings)
        console = Console()
        table = Table(*HEADERS, title=f"{found.task}: {found.metric}")
        for row in found.rows:
            table.add_row(*cells(row))
        console.print(table)
        console.print(Text(footer(found)), soft_wrap=True)
        if chart is not None:
            draw(found, chart)
            console.print(Text(f"the chart is in {chart}"))


@bank.command("build")
def bank_build(
    data: Annotated[Path, typer.Option("--data", help="The folder of the databases' folders.")],
    out: Annotated[Path, typer.Option("--out", help="Where trials are kept, to go on from.")],
    databases: Annotated[list[str] | None, typer.Argument(help="Some of them; all.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes, a database at a time in each.")] = 1,
    each: Annotated[int | None, typer.Option(help="Points of a template at most.")] = None,
) -> None:
    """Train the bank's programs on the bank's tasks; goes on where it was interrupted."""
    with _failing(""):
        found = build(data, out, databases or [], jobs, each)
        typer.echo(f"{len(found.trials)} trials of {len(found.tasks)} tasks are in {out}")


@bank.command("show")
def bank_show(
    folder: Annotated[Path | None, typer.Argument(help="A bank; the one shipped.")] = None,
) -> None:
    """One line a task: how many trials, and the best of each family by validation on test."""
    with _failing(""):
        found = Bank.shipped() if folder is None else Bank.read(folder)
        table = Table("database", "task", "metric", "trials", "failed", "messages", "features")
        for line in summary(found):
            table.add_row(*line)
        Console().print(table)


@bank.command("add")
def bank_add(
    folder: Annotated[Path, typer.Argument(help="The bank that grows; made if not there.")],
    others: Annotated[list[Path], typer.Argument(help="Banks whose trials go into it.")],
) -> None:
    """Put the trials and signals of banks into one; of equal trials the later bank's count."""
    with _failing(""):
        found = Bank.read(folder) if folder.exists() else Bank.shipped()
        for other in others:
            found = found.joined(Bank.read(other))
        found.write(folder)
        typer.echo(f"{len(found.trials)} trials of {len(found.tasks)} tasks are in {folder}")


@app.command()
def shell(db: Database = ":memory:") -> None:
    """Type statements, end them with `;`. Ctrl-C cancels one, .quit leaves, .help tells more."""
    interactive = sys.stdin.isatty()
    with _failing(""), connect(db) as session:
        console = Console()
        if interactive:
            greeting = f"relann {VERSION}, database {db}. .help tells what there is."
            _print(console, Result(message=greeting))
        failed = _converse(session, console, _reader(interactive), interactive)
    if failed and not interactive:
        raise typer.Exit(1)


def _converse(
    session: Session, console: Console, read: Callable[[str], str], interactive: bool
) -> bool:
    """Read and run statements until the input ends; whether any of them failed."""
    written, failed = "", False
    while True:
        try:
            line = read((MORE if written else PROMPT) if interactive else "")
            if not written and line.strip().startswith("."):
                if line.strip() in (".quit", ".exit"):
                    return failed
                _command(session, console, line.strip())
                continue
            written += line + "\n"
            if _complete(written):
                text, written = written, ""
                for result in session.each(text):
                    _print(console, result)
        except EOFError:
            if written.strip():  # a last statement without its semicolon
                failed |= not _finish(session, console, written)
            return failed
        except KeyboardInterrupt:
            written = ""
            _complain("cancelled")
        except RelannError as error:
            written, failed = "", True
            _complain(f"{type(error).__name__}: {error}")


def _finish(session: Session, console: Console, text: str) -> bool:
    try:
        for result in session.each(text):
            _print(console, result)
    except RelannError as error:
        _complain(f"{type(error).__name__}: {error}")
        return False
    return True


def _complete(text: str) -> bool:
    """Whether the text is whole statements, each with its semicolon."""
    try:
        tokens = lex(text).tokens
    except QueryError:
        return False  # a string or a comment goes on
    return not tokens or tokens[-1].text == ";"


def _tables(session: Session) -> Result:
    return session.sql(
        "SELECT table_schema AS schema, table_name AS name, lower(table_type) AS kind "
        "FROM information_schema.tables WHERE table_catalog = current_database() "
        "AND table_schema <> 'relann' ORDER BY ALL"
    )


_COMMANDS: dict[str, tuple[str, Callable[[Session], Result]]] = {
    ".tables": ("tables and views of the database", _tables),
    ".models": ("models kept in it", lambda session: session.sql("SHOW MODELS")),
    ".layers": ("layers kept in it", lambda session: session.sql("SHOW LAYERS")),
}


def _command(session: Session, console: Console, name: str) -> None:
    if name == ".help":
        lines = [f"{command:10}{what}" for command, (what, _) in _COMMANDS.items()]
        lines += [f"{'.quit':10}leave; so does Ctrl-D", f"{'.help':10}this list"]
        lines.append("Statements end with a semicolon and may take several lines.")
        _print(console, Result(message="\n".join(lines)))
    elif name in _COMMANDS:
        _print(console, _COMMANDS[name][1](session))
    else:
        known = [*_COMMANDS, ".help", ".quit"]
        _complain(f"there is no command {name}; .help lists them.{did_you_mean(name, known)}")


def _reader(interactive: bool) -> Callable[[str], str]:
    """What reads a line: prompt_toolkit at a terminal where it is installed, else `input`."""
    if not interactive or PromptSession is None:
        return input
    path = Path.home() / _HISTORY
    history: History = InMemoryHistory()
    try:
        path.touch()
        history = FileHistory(str(path))
    except OSError:
        pass  # no place to keep it: a history of this session only
    session: PromptSession[str] = PromptSession(history=history)
    return session.prompt


def _print(console: Console, result: Result) -> None:
    if result.columns:
        console.print(result)
    elif result.message:
        console.print(Text(result.message), soft_wrap=True)


def _complain(message: str) -> None:
    Console(stderr=True).print(Text(message, style="red"), soft_wrap=True)


def _is_file(query: str) -> bool:
    try:
        return Path(query).is_file()
    except (OSError, ValueError):  # too long, or not a path at all
        return False


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        _complain(f"{file}: {error.strerror or error}")
    except UnicodeDecodeError:
        _complain(f"{file}: not a text in UTF-8")
    raise typer.Exit(1)


@contextmanager
def _failing(file: str, quiet: bool = False) -> Iterator[None]:
    """End the program with an error's text, after the file's name, and code 1.

    `quiet`: where another process tells the text, unless that is what may have been lost.
    """
    try:
        yield
    except RelannError as error:
        where = f"{file}: " if file else ""
        if not quiet or isinstance(error, LostError):
            _complain(f"{where}{type(error).__name__}: {error}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        _complain("cancelled")
        raise typer.Exit(INTERRUPTED) from error
