"""docs/adding-a-feature.md, run as it stands: in a copy of the tree, step by step."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from tests.feedrank.test_train import data_set

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "adding-a-feature.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of models/ with the tutorial's function at the end of the file that it names."""
    root = tmp_path_factory.mktemp("tutorial")
    shutil.copytree(ROOT / "models", root / "models", ignore=shutil.ignore_patterns("__pycache__"))
    path, code = blocks("python")[0].split("\n", 1)
    with (root / path.removeprefix("# ")).open("a") as file:
        file.write("\n\n" + code)
    return root


def run(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) | {"PYTHONPATH": f"{tree}{os.pathsep}{ROOT}"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=300)


def feedrank(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(tree, "-m", "feedrank.cli", *arguments)


def test_the_catalogue_lists_it(tree: Path) -> None:
    assert blocks("sh")[0].split() == ["feedrank", "features"]
    shown = feedrank(tree, "features")
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"^topics_carried +1 .*How many topics the item carries", shown.stdout, re.MULTILINE)
    assert "topics_carried" not in feedrank(ROOT, "features").stdout


def test_values_are_those_of_the_page(tree: Path) -> None:
    shown = run(tree, "-c", blocks("python")[1])
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == blocks("text")[0]


def test_a_policy_may_weigh_it(tree: Path) -> None:
    section, weight = blocks("toml")[0].strip().splitlines()
    text = files("models").joinpath("default_policy.toml").read_text("utf-8")
    assert section in text
    (tree / "policy.toml").write_text(text.replace(section, f"{section}\n{weight}"))
    command = blocks("sh")[1].split()
    shown = feedrank(tree, *command[1:])
    assert shown.returncode == 0, shown.stderr
    assert feedrank(ROOT, *command[1:-1], str(tree / "policy.toml")).returncode != 0, "here there is none"


def test_older_data_sets_are_refused(tree: Path, tmp_path: Path) -> None:
    data = data_set(tmp_path / "old.parquet", rows=200)
    refused = feedrank(tree, "train", str(data), str(tmp_path / "model"))
    assert refused.returncode != 0
    assert "feature topics_carried is missing there" in refused.stderr
