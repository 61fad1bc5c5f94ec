"""`feedrank replay --model`, and replays under a policy that names models: which model ranks, and when."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from feedrank import cli
from models.policy import parse_policy
from streams.errors import ExitCode, OperatorError
from streams.manifest import MANIFEST, manifest_hash
from streams.store import ShardStore
from tests.feedrank.replaying import Lines, replay, the_job, written
from tests.feedrank.test_train import data_set
from tests.oracle.made_up import Stream
from tests.shadows import BUNDLED
from topologies.replay.feeds import decode_head
from topologies.replay.job import State
from topologies.replay.models import place_models, with_model
from topologies.replay.shadow import Shadow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a linear model named `a`."""
    root = tmp_path_factory.mktemp("models")
    data_set(root / "set.parquet")
    assert cli.run(["train", str(root / "set.parquet"), str(root / "a"), "--kind", "linear"]) == 0
    return root / "a"


@pytest.fixture
def path(tmp_path: Path, data: Path, lines: Lines) -> Path:
    return written(tmp_path / "a.jsonl", lines)


def tables(capsys: pytest.CaptureFixture[str], namespace: str) -> list[str]:
    """The three lines of a digest."""
    capsys.readouterr()
    assert cli.run(["digest", namespace]) == 0
    return capsys.readouterr().out.splitlines()[:3]


def rankers(data: Path, namespace: str) -> set[str]:
    """The models that feeds say they were ranked by."""
    found = set()
    for directory in (data / namespace).glob("feeds-*"):
        store = ShardStore(directory)
        for chunk in store.scan(b"for_you"):
            found |= {decode_head(value)[b"model"].decode() for _, value in chunk}
        store.close()
    return found


def test_another_model_changes_feeds_only_and_any_number_of_processes_gives_the_same(
    path: Path, data: Path, stream: Stream, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = ["--to", str(stream.end_ms)]
    assert replay(path, *to, into="plain") == 0
    assert replay(path, *to, "--model", trained, into="one") == 0
    assert replay(path, *to, "--model", trained, "--jobs", "2", into="two") == 0
    plain, one, two = (tables(capsys, name) for name in ("plain", "one", "two"))
    assert plain[:2] == one[:2]
    assert plain[2].split()[1] == one[2].split()[1]
    assert plain[2] != one[2]
    assert one == two
    (name,) = rankers(data, "one")
    assert re.fullmatch(r"a-[0-9a-f]{8}", name)
    assert rankers(data, "plain").isdisjoint({name})


def test_the_policys_model_ranks_as_it_was_when_the_replay_was_defined(
    path: Path, data: Path, stream: Stream, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "policies" / "m")
    policy = tmp_path / "policies" / "policy.toml"
    policy.write_text(f'{BUNDLED}\n[model]\nlight = "m"\n')
    assert replay(path, "--to", stream.end_ms, "--policy", policy, "--submit") == 0
    shutil.rmtree(tmp_path / "policies")
    job = the_job(data)
    assert cli.run(["jobs", "resume", job.id]) == 0
    (name,) = rankers(data, "june")
    assert name.startswith("a-")
    shadow = Shadow(data / "june")
    place_models(shadow, parse_policy(shadow.definition().policy))
    assert (data / "june" / "m" / MANIFEST).is_file()  # where a worker with this policy file looks for it


def test_a_model_of_other_features_is_refused_before_anything_is_made(
    path: Path, data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    manifest = json.loads((other / MANIFEST).read_text())
    manifest["features"] |= {"moon_phase": 1}
    manifest["hash"] = manifest_hash(manifest)
    (other / MANIFEST).write_text(json.dumps(manifest))
    assert replay(path, "--model", other) == ExitCode.BAD_INPUT
    error = capsys.readouterr().err
    assert "feature moon_phase is not known here" in error
    assert len(error.splitlines()) == 1
    assert replay(path, "--model", tmp_path / "nowhere") == ExitCode.BAD_INPUT
    assert not data.exists()


def test_a_model_cut_off_in_the_shadow_fails_the_job(
    path: Path, data: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(path, "--model", trained, "--submit") == 0
    (data / "june" / "models" / "light" / "weights.safetensors").write_bytes(b"")
    assert cli.run(["jobs", "resume", the_job(data).id]) == ExitCode.BAD_INPUT
    assert "is not the file that was trained" in capsys.readouterr().err
    assert the_job(data).state is State.FAILED


def test_a_given_model_takes_the_place_of_whatever_the_policy_names() -> None:
    table = '[model]\nlight = "x"  # [old]\nheavy = "y"\nheavy_candidates = 9\n'
    for text in (BUNDLED, f"{BUNDLED}\n{table}", f'{BUNDLED}\n{table}[feed2]\nx = "[model]"\n'):
        changed = with_model(text)
        assert changed.count("\n[model]\n") == 1
        assert ("[feed2]" in changed) == ("[feed2]" in text)
    choice = parse_policy(with_model(f"{BUNDLED}\n{table}")).model
    assert (choice.light, choice.heavy) == ("models/light", None)
    with pytest.raises(OperatorError, match="cannot take the place"):
        with_model('model = { light = "x" }\n' + BUNDLED)
