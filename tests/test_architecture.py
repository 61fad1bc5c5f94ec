"""The tree stays tidy: one-way imports, a pure core, small files, docstrings, nothing of a machine."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.settings import CONCERNS

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 70

MAY_IMPORT = {
    "wire": {"wire"},
    "models": {"models", "wire"},
    "streams": {"streams", "models", "wire"},
    "serving": {"serving", "wire"},
    "topologies": {"topologies", "streams", "models", "wire"},
    "demo": {"demo", "topologies", "serving", "streams", "models", "wire"},
    "feedrank": {"feedrank", "benchmarks", "demo", "topologies", "serving", "streams", "models", "wire"},
}
"""Package -> the project's packages that it may import; see docs/architecture.md."""
CHECKOUT_ONLY = {"feedrank/bench_command.py": {"tests"}}
"""Commands that refuse to run outside a checkout may use what only a checkout has."""
STREAMS_MAY_IMPORT = {"columns", "fingerprint", "item_columns", "policy", "verbs"}
"""Of models: what bytes are decoded to, and the parser of the policy's file. Nothing of ranking."""
PURE_OF_OTHERS = {"numpy", "xxhash"}
IMPURE = {
    *("asyncio", "datetime", "http", "io", "logging", "multiprocessing", "os", "random", "secrets", "shutil"),
    *("socket", "sqlite3", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid"),
}
"""Standard modules with I/O, a clock or chance: not in models."""
FORBIDDEN = [
    re.compile(re.escape(head + tail))
    for head, tail in (
        *(("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/"), ("pypi", ".org"), ("python", "hosted.org")),
        *(("repo", ".maven"), ("repo1", ".maven"), ("arti", "factory"), ("../sha", "red")),
    )
]
"""Paths of a machine, hosts of package registries (written in two parts, so that this file may hold them)."""
MAY_NAME_SHARED = {"tests/conftest.py"}
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".yml",
    ".yaml",
    ".json",
    ".avsc",
    ".lua",
    ".html",
    ".xml",
    ".java",
    ".sh",
    "",
}


def tracked() -> list[Path]:
    """Files that are in the repository or about to be; all files where git is absent."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        hidden = {".venv", "build", "run", "__pycache__"}
        listed = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if not hidden & set(p.parts)]
    return [ROOT / name for name in sorted(listed) if (ROOT / name).is_file()]


FILES = tracked()
PYTHON = [path for path in FILES if path.suffix == ".py"]
PACKAGED = [path for path in PYTHON if path.relative_to(ROOT).parts[0] in MAY_IMPORT]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), name_of(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, first part of the module's name) of every import, also those inside functions."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]


@pytest.mark.parametrize("path", PACKAGED, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    allowed = MAY_IMPORT[path.relative_to(ROOT).parts[0]] | CHECKOUT_ONLY.get(name_of(path), set())
    project = {*MAY_IMPORT, "benchmarks", "tests"}
    wrong = [f"line {line}: {name}" for line, name in imports(path) if name in project - allowed]
    assert wrong == []


def test_the_edge_knows_nothing_of_ranking() -> None:
    edge = [path for path in PACKAGED if path.relative_to(ROOT).parts[0] == "streams"]
    nodes = [node for path in edge for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom)]
    modules = {str(node.module).split(".")[1] for node in nodes if str(node.module).startswith("models.")}
    assert modules <= STREAMS_MAY_IMPORT


@pytest.mark.parametrize(
    "path", [p for p in PACKAGED if p.relative_to(ROOT).parts[0] == "models"], ids=name_of
)
def test_the_core_is_pure(path: Path) -> None:
    for line, name in imports(path):
        others = name in sys.stdlib_module_names or name in PURE_OF_OTHERS | {"models", "wire"}
        assert others, f"line {line}: models may import numpy, xxhash and the standard library, not {name}"
        assert name not in IMPURE, f"line {line}: {name} is I/O, a clock or chance; pass the value in"
    text = path.read_text()
    unseeded = re.findall(r"\b(?:np|numpy)\.random\.(?!Generator\b|default_rng\(\w)\w+", text)
    assert unseeded == [], f"{unseeded}: numpy's random state is global; make a generator of a given seed"


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_files_and_functions_are_small(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    if path in PACKAGED:
        assert lines < FILE_LINES_MAX, f"{lines} lines; split it by what it is about"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines; split it"


@pytest.mark.parametrize("path", PACKAGED, ids=name_of)
def test_what_is_public_is_documented(path: Path) -> None:
    tree = tree_of(path)
    if not tree.body:
        return
    assert ast.get_docstring(tree), "the module does not say what it is for"
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = [n for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix in TEXT], ids=name_of)
def test_nothing_of_a_machine_or_a_registry_is_in_the_tree(path: Path) -> None:
    text = path.read_text(errors="replace")
    found = {m.group() for pattern in FORBIDDEN for m in pattern.finditer(text)}
    if name_of(path) in MAY_NAME_SHARED:
        found = {one for one in found if "share" not in one}
    assert not found


def with_examples() -> list[Path]:
    return [path for path in PACKAGED if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", with_examples(), ids=name_of)
def test_examples_in_docstrings_hold(path: Path) -> None:
    module = name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(d for extra in project["optional-dependencies"].values() for d in extra),
    ]
    names = {re.match(r"[A-Za-z0-9._-]+", one)[0].lower().replace("_", "-") for one in wanted}  # type: ignore[index]
    assert names - pinned == set(), "run `make constraints`"


def test_every_setting_is_read_somewhere() -> None:
    code = "\n".join(path.read_text() for path in PACKAGED)
    fields = [field for kind in CONCERNS.values() for field in kind.model_fields]
    assert [field for field in fields if not re.search(rf"\w\.{field}\b", code)] == []
