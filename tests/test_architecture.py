"""Imports point down, stand at the top of their module and name modules; no file names a machine.

Each check is a function from sources to complaints. It is run on the package, and on small sources
that break it, so that a check that no longer sees anything fails as well.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]

# From the bottom up. A module imports from its own layer and from those before it.
LAYERS = (
    (
        "errors",
        "duckdb_errors",
        "draft",
        "schema",
        "version",
        "declarations",
        "naming",
        "compiled",
        "discovery",
    ),
    ("dialects",),
    ("algebra",),
    ("provenance",),
    ("models",),
    ("autoselect",),
    (
        *("session", "lifecycle", "store", "transport", "deployment", "results", "estimator"),
        *("bound_models", "table_functions", "provenance_functions", "model_search"),
        *("chunking", "second_connection"),
        *("declare", "overview", "manifest", "published_tasks"),
    ),
    (
        "cli",
        "datasets",
        "loading",
        "demo",
        "doctor",
        "bank_databases",
        "bank_build",
        "comparison",
        "distributed",
        "__main__",
    ),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
TOP = len(LAYERS)  # relann itself, which gathers the public names

# Imports that may stand inside a function, as (module, imported): what is loaded only when asked
# for, such as an engine that needs a GPU or a package of an extra.
LATE = frozenset(
    {
        ("relann.cli", "relann.demo"),
        ("relann.models.boosting", "lightgbm"),
        ("relann.autoselect.search", "optuna"),
        ("relann.comparison", "matplotlib.figure"),
        ("relann.loading", "relbench"),
        ("relann.algebra.engines.cudf", "cudf"),
        ("relann.algebra.engines.cudf", "cupy"),
        *(
            ("relann.provenance.pretrained", library)
            for library in ("sentence_transformers", "transformers", "model2vec", "huggingface_hub")
        ),
    }
)


@dataclass(frozen=True)
class Import:
    """One imported name: `target` is the module, or the module and what is taken from it."""

    line: int
    target: str
    names_package: bool
    function: str | None

    def is_from(self, module: str) -> bool:
        return self.target == module or self.target.startswith(f"{module}.")


def imports(module: str, source: str) -> list[Import]:
    """Every import of a module, whatever it stands in; relative ones in full.

    A call of `import_module` or `__import__` is one too, where it names its module in plain text.
    """
    package = module.removesuffix(".__init__") if module.endswith("__init__") else _parent(module)
    return list(_imports(ast.parse(source), package, None))


def _imports(node: ast.AST, package: str, function: str | None) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import(names):
                for name in names:
                    yield Import(child.lineno, name.name, name.name == "relann", function)
            case ast.ImportFrom(of, names, level):
                above = package.split(".")[: 1 - level or None] if level else []
                base = ".".join([*above, *filter(None, [of])])
                for name in names:
                    yield Import(child.lineno, f"{base}.{name.name}", base == "relann", function)
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
                yield from _imports(child, package, name)
            case ast.Call(
                ast.Attribute(attr="import_module") | ast.Name("import_module" | "__import__"),
                [ast.Constant(str(name)), *_],
            ):
                yield Import(child.lineno, name, name == "relann", function)
            case _:
                yield from _imports(child, package, function)


def _parent(module: str) -> str:
    return module.rpartition(".")[0]


def _rank(module: str) -> int:
    """The layer of a module of ours; what is in no layer is taken from relann itself."""
    return RANK.get(module.split(".")[1], TOP) if "." in module else TOP


Sources = Mapping[str, str]  # by name of module; a package's is `relann.algebra.__init__`


def without_layer(sources: Sources) -> list[str]:
    """Modules that LAYERS does not place."""
    return [
        f"{module} is in no layer: place it in LAYERS"
        for module in sources
        if module != "relann.__init__" and module.split(".")[1] not in RANK
    ]


def upward(sources: Sources) -> list[str]:
    """Imports from a higher layer."""
    return [
        f"{module}, line {i.line}: imports {i.target}, which stands above it"
        for module, source in sources.items()
        for i in imports(module, source)
        if i.is_from("relann") and _rank(i.target) > _rank(module.replace(".__init__", ""))
    ]


def torch_below(sources: Sources) -> list[str]:
    """Imports of torch, or of another library's part for torch, in algebra or below it."""
    return [
        f"{module}, line {i.line}: imports {i.target}, and algebra does without torch"
        for module, source in sources.items()
        if _rank(module.replace(".__init__", "")) <= RANK["algebra"]
        for i in imports(module, source)
        if any(part.startswith("torch") for part in i.target.split(".")) and not i.is_from("relann")
    ]


def late(sources: Sources, allowed: frozenset[tuple[str, str]] = LATE) -> list[str]:
    """Imports inside functions."""
    return [
        f"{module}, line {i.line}: imports {i.target} inside {i.function}()"
        for module, source in sources.items()
        for i in imports(module, source)
        if i.function and not any(m == module and i.is_from(target) for m, target in allowed)
    ]


def of_package(sources: Sources) -> list[str]:
    """Imports of relann as a whole, or from it, where the concrete module should be named."""
    return [
        f"{module}, line {i.line}: imports {i.target}, name the module instead"
        for module, source in sources.items()
        for i in imports(module, source)
        if i.names_package
    ]


_MACHINE = re.compile(
    r"(?<![\w.~$)}:/\\-])(?:"
    r"/(?:home|Users|root|tmp|var/tmp|private/tmp|work|workspace|scratch)(?![\w-])|[A-Z]:\\Users\\)"
    r"[^\s'\"`)]*"
)


def machine_paths(texts: Mapping[str, str], checkout: Path = PROJECT) -> list[str]:
    """Absolute paths of homes, temporary folders and the checkout itself, if it is two deep."""
    root = str(checkout) if len(checkout.parts) > 2 else None
    return [
        f"{file}, line {number}: holds {found}"
        for file, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        for found in [*_MACHINE.findall(line), *([root] if root and root in line else [])]
    ]


def package_sources() -> dict[str, str]:
    return {
        ".".join(file.relative_to(PROJECT).with_suffix("").parts): file.read_text("utf-8")
        for file in sorted((PROJECT / "relann").rglob("*.py"))
    }


def committed_texts() -> dict[str, str]:
    """The text files git holds or would add; without git, those outside what tools make."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        check=False,
    )
    names = listed.stdout.decode("utf-8").split("\0") if listed.returncode == 0 else []
    if "pyproject.toml" not in names:
        made = {".git", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".venv"}
        made |= {"__pycache__", "build", "dist"}
        files = (f.relative_to(PROJECT) for f in PROJECT.rglob("*"))
        names = [f.as_posix() for f in files if not made & set(f.parts)]
    texts = {}
    for name in names:
        if (PROJECT / name).is_file() and b"\0" not in (content := (PROJECT / name).read_bytes()):
            texts[name] = content.decode("utf-8")
    return texts


@pytest.mark.parametrize("check", [without_layer, upward, torch_below, late, of_package])
def test_imports(check):
    complaints = check(package_sources())
    assert not complaints, "\n".join(complaints)


def test_committed_files_name_no_machine():
    complaints = machine_paths(committed_texts())
    assert not complaints, "\n".join(complaints)


def test_the_checks_see_the_project():
    assert {"relann.__init__", "relann.algebra.nodes", "relann.algebra.rules.__init__"} <= set(
        package_sources()
    )
    assert {"pyproject.toml", "Makefile", ".ci/run", "tests/conftest.py"} <= set(committed_texts())


@pytest.mark.parametrize(
    ("check", "module", "source", "complaint"),
    [
        (without_layer, "relann.algebra.x", "", None),
        (without_layer, "relann.__init__", "", None),
        (without_layer, "relann.extra", "", "relann.extra is in no layer: place it in LAYERS"),
        (without_layer, "relann.extra.x", "", "relann.extra.x is in no layer: place it in LAYERS"),
        (upward, "relann.algebra.x", "from relann.schema import Table", None),
        (upward, "relann.algebra.x", "from relann.algebra.y import z", None),
        (upward, "relann.session", "import relann.store", None),
        (upward, "relann.__init__", "from relann.session import connect", None),
        (upward, "relann.algebra.x", "import relann_extra.session", None),
        (
            upward,
            "relann.algebra.x",
            "\nfrom relann.models.y import z",
            "relann.algebra.x, line 2: imports relann.models.y.z, which stands above it",
        ),
        (
            upward,
            "relann.errors",
            "import os, relann.schema, relann.provenance.kernels as k",
            "relann.errors, line 1: imports relann.provenance.kernels, which stands above it",
        ),
        (
            upward,
            "relann.models.x",
            "from relann import store",
            "relann.models.x, line 1: imports relann.store, which stands above it",
        ),
        (
            upward,
            "relann.autoselect.x",
            "import relann",
            "relann.autoselect.x, line 1: imports relann, which stands above it",
        ),
        (
            upward,
            "relann.algebra.rules.__init__",
            "if TYPE_CHECKING:\n    from ...autoselect import x",
            "relann.algebra.rules.__init__, line 2: imports relann.autoselect.x, "
            "which stands above it",
        ),
        (
            upward,
            "relann.algebra.rules.x",
            "try:\n    from ... import cli\nexcept ImportError: pass",
            "relann.algebra.rules.x, line 2: imports relann.cli, which stands above it",
        ),
        (
            upward,
            "relann.algebra.rules.x",
            "from ..nodes import a\nfrom ..nodes import b\nfrom ...cli import main",
            "relann.algebra.rules.x, line 3: imports relann.cli.main, which stands above it",
        ),
        *(
            (
                upward,
                "relann.models.x",
                f"import importlib\nx = {call}('relann.session').y",
                "relann.models.x, line 2: imports relann.session, which stands above it",
            )
            for call in ("importlib.import_module", "import_module", "__import__")
        ),
        (
            upward,
            "relann.session",
            "def f():\n    from relann.cli import main",
            "relann.session, line 2: imports relann.cli.main, which stands above it",
        ),
        (torch_below, "relann.provenance.x", "import torch", None),
        (torch_below, "relann.algebra.x", "import numpy\nfrom relann.schema import torch", None),
        *(
            (
                torch_below,
                module,
                source,
                f"{module}, line 1: imports {target}, and algebra does without torch",
            )
            for module in ("relann.algebra.engines.x", "relann.algebra.__init__", "relann.errors")
            for source, target in (
                ("import torch", "torch"),
                ("import torch.nn as nn", "torch.nn"),
                ("from torch import Tensor", "torch.Tensor"),
                ("from safetensors import torch", "safetensors.torch"),
                ("import torch_geometric", "torch_geometric"),
            )
        ),
        (late, "relann.cli", "import os\nclass A:\n    import re\nif a:\n    import io", None),
        (
            late,
            "relann.cli",
            "class A:\n    def f(self):\n        if a:\n            from re import sub",
            "relann.cli, line 4: imports re.sub inside f()",
        ),
        (
            late,
            "relann.cli",
            "async def f():\n    import relann.session",
            "relann.cli, line 2: imports relann.session inside f()",
        ),
        (
            late,
            "relann.session",
            "def f():\n    return import_module('relann.demo').main()",
            "relann.session, line 2: imports relann.demo inside f()",
        ),
        (of_package, "relann.cli", "import relann.session\nfrom relann.session import a", None),
        (of_package, "relann.cli", "import relannx", None),
        (
            of_package,
            "relann.cli",
            "import os\nimport relann as r",
            "relann.cli, line 2: imports relann, name the module instead",
        ),
        (
            of_package,
            "relann.cli",
            "from relann import connect",
            "relann.cli, line 1: imports relann.connect, name the module instead",
        ),
        (
            of_package,
            "relann.models.x",
            "from .. import session",
            "relann.models.x, line 1: imports relann.session, name the module instead",
        ),
    ],
)
def test_each_check_can_fail(check, module, source, complaint):
    assert check({"relann.errors": "", module: source}) == ([complaint] if complaint else [])


def test_only_the_late_imports_that_are_listed_pass():
    source = "def f():\n    import cudf.core\ndef g():\n    import cudfx"
    sources = {"relann.algebra.engines.x": source, "relann.algebra.y": source}
    assert late(sources, frozenset({("relann.algebra.engines.x", "cudf")})) == [
        "relann.algebra.engines.x, line 4: imports cudfx inside g()",
        "relann.algebra.y, line 2: imports cudf.core inside f()",
        "relann.algebra.y, line 4: imports cudfx inside g()",
    ]


# Written in pieces, as this file too is looked through.
@pytest.mark.parametrize(
    "path",
    [
        "/" + "tmp",
        "/" + "tmp/x.duckdb",
        "/" + "home/someone/.cache",
        "/" + "root/.pyenv",
        "/" + "Users/someone/relann",
        "/" + "var/tmp/x",
        "C:" + "\\Users\\someone",
    ],
)
@pytest.mark.parametrize("around", ["{}", "path = '{}'", 'open("{}")', "see {} now", "a={}"])
def test_a_path_of_a_machine_is_found(path, around):
    assert machine_paths({"f.md": "\n" + around.format(path)}) == [f"f.md, line 2: holds {path}"]


def test_the_path_of_the_checkout_is_found():
    complaint = "f.md, line 1: holds /srv/relann"
    assert machine_paths({"f.md": "cd /srv/relann/docs"}, Path("/srv/relann")) == [complaint]
    assert machine_paths({"f.md": "cd /srv/relann/docs"}, Path("/srv")) == []


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/home/x and example.org/tmp/x",
        "../tmp/x ./home/x ~/tmp/x $HOME/tmp/x ${base}/tmp/x",
        "network/home/x, input/tmp",
        "/" + "usr/bin/env bash, /" + "homes, /" + "tmp-like",
    ],
)
def test_other_paths_are_left_alone(text):
    assert machine_paths({"f.md": text}) == []
