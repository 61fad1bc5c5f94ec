"""Learned item vectors: what belongs together is close, old interests hold, the job gets what was learned."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from feedrank import cli
from feedrank.dataset.events import change_of, past_of
from feedrank.dataset.topics import items_of
from feedrank.embedding.engagements import USER_ITEMS_MAX, engagements
from feedrank.embedding.make import Publication, live, quantised
from feedrank.load import jsonl
from models.learned.embeddings import aligned, recall, signed, similar, unit
from streams.embedding_folder import VECTORS, Embeddings, read_embeddings
from streams.errors import ExitCode
from streams.manifest import MANIFEST
from streams.policy_file import read_policy
from streams.settings import Settings
from topologies.past import ItemChange

ITEMS, TASTES, USERS = 120, 6, 240
DAY_MS = 86_400_000
BEGIN_MS = 1_767_254_400_000
VERBS = read_policy().verbs


def people(path: Path, acts: int = 9_000, seed: int = 1, embedded: bool = False) -> Path:
    """Users like items of one of six kinds, and now and then any; nothing in an item says its kind."""
    rng = random.Random(seed)
    lines: list[dict[str, object]] = [
        {"type": "item", "item_id": f"i{n}", "author": "a", "created_at": BEGIN_MS}
        | ({"embedding": [1.0, float(n)]} if embedded else {})
        for n in range(ITEMS)
    ]
    for number in range(acts):
        user = rng.randrange(USERS)
        near = rng.random() < 0.85
        item = rng.randrange(ITEMS // TASTES) * TASTES + user % TASTES if near else rng.randrange(ITEMS)
        lines.append(
            {"type": "activity", "actor": f"u{user}", "verb": rng.choice(["click", "like"]),
             "object": f"i{item}", "event_time": BEGIN_MS + 1_000 + number * 10_000,
             "activity_id": f"e{number}"}
        )  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people(tmp_path_factory.mktemp("embeddings") / "people.jsonl")


@pytest.fixture(scope="module")
def folder(file: Path) -> Path:
    assert cli.run(["embeddings", "jsonl", str(file), str(file.parent / "vectors")]) == ExitCode.OK
    return file.parent / "vectors"


def kinds(made: Embeddings) -> list[int]:
    return [int(one[1:]) % TASTES for one in made.ids]


def test_items_that_share_people_are_close(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, manifest = read_embeddings(folder)
    assert manifest["items"] == len(made.ids) == ITEMS
    found, _ = similar(made.vectors.astype(np.float64), np.arange(ITEMS), 10)
    kind = np.array(kinds(made))
    assert (kind[found] == kind[:, None]).mean() > 0.9
    assert np.abs(np.linalg.norm(made.vectors, axis=1) - 1).max() < 1e-5
    capsys.readouterr()
    assert cli.run(["embeddings", "similar", str(folder), "i7", "--json"]) == ExitCode.OK
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 10
    assert sum(int(row["item"][1:]) % TASTES == 7 % TASTES for row in rows) >= 9
    assert [row["cosine"] for row in rows] == sorted((row["cosine"] for row in rows), reverse=True)


def test_what_comes_later_is_foreseen_better_than_by_popularity(folder: Path) -> None:
    metrics = read_embeddings(folder)[1]["metrics"]
    assert metrics["people"] > 100
    assert metrics["recall@20"] > 2 * metrics["recall@20 of popularity"]


def test_the_same_file_and_seed_give_the_same_bytes(file: Path, folder: Path, tmp_path: Path) -> None:
    assert cli.run(["embeddings", "jsonl", str(file), str(tmp_path / "vectors")]) == ExitCode.OK
    assert (tmp_path / "vectors" / VECTORS).read_bytes() == (folder / VECTORS).read_bytes()


def test_a_new_training_is_turned_onto_the_one_in_use(folder: Path, tmp_path: Path) -> None:
    more = people(tmp_path / "more.jsonl", acts=12_000, seed=2)
    asked = ["embeddings", "jsonl", str(more), str(tmp_path / "new")]
    assert cli.run([*asked, "--previous", str(folder)]) == ExitCode.OK
    assert cli.run(["embeddings", "jsonl", str(more), str(tmp_path / "free")]) == ExitCode.OK
    before, (new, told), (free, _) = (
        read_embeddings(folder)[0],
        read_embeddings(tmp_path / "new"),
        read_embeddings(tmp_path / "free"),
    )
    assert told["previous"] == read_embeddings(folder)[1]["hash"]
    assert told["items_turned_onto_the_previous"] == ITEMS
    interest = np.stack(
        [before.vectors[np.array(kinds(before)) == kind].sum(axis=0) for kind in range(TASTES)]
    )

    def share(made: Embeddings) -> float:
        """How often an interest of old finds items of its kind among its ten best new ones."""
        best = np.argsort(-(interest @ made.vectors.T), axis=1)[:, :10]
        return float((np.array(kinds(made))[best] == np.arange(TASTES)[:, None]).mean())

    assert share(new) > 0.9
    assert share(free) < 0.6, "without turning, old interests point anywhere"
    inner, turned = (one.vectors @ one.vectors.T for one in (free, new))
    assert np.abs(inner - turned).max() < 1e-4, "turning stretches nothing"


def test_a_refresh_that_shares_too_few_items_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = people(tmp_path / "others.jsonl", acts=3_000)
    others.write_text(others.read_text().replace('"i', '"other').replace('"othertem', '"item'))
    asked = ["embeddings", "jsonl", str(others), str(tmp_path / "new"), "--previous", str(folder)]
    assert cli.run(asked) == ExitCode.OK
    out = capsys.readouterr().out
    assert "0 items in both" in out
    assert "warning: 0 items do not fix 64 axes" in out


def test_the_job_stores_what_was_learned(file: Path, folder: Path) -> None:
    made, _ = read_embeddings(folder)
    items = live(past_of(jsonl.events(file), VERBS).items)
    publication = Publication(made, items)
    assert publication.own(None) == []
    events = list(publication.events(BEGIN_MS + DAY_MS))
    assert publication.sent == len(events) == ITEMS
    whole = dict(zip(made.ids, quantised(made), strict=True))
    changes = [change_of(event) for event in events]
    for change in changes:
        assert change.record is not None
        assert (change.record.embedding == whole[change.record.item_id]).all()
        old = items[change.fp]
        assert (old.author, old.created_ms, old.topics) == (
            change.record.author,
            change.record.created_ms,
            change.record.topics,
        )
    again = Publication(made, live(changes))
    assert again.own(None) == []
    assert list(again.events(BEGIN_MS)) == []
    assert again.same == ITEMS, "nothing is sent twice"


def test_embeddings_of_another_origin_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    made, _ = read_embeddings(folder)
    theirs = live(past_of(jsonl.events(people(tmp_path / "own.jsonl", 10, embedded=True)), VERBS).items)
    assert len(Publication(made, theirs).own(None)) == ITEMS
    turned = Embeddings(made.fp, made.ids, -made.vectors)
    published = [change_of(event) for event in Publication(turned, theirs).events(BEGIN_MS)]
    assert Publication(made, live(published)).own(turned) == []
    gone = ItemChange(BEGIN_MS, published[0].fp, None)
    assert len(live([*published, gone])) == ITEMS - 1


def test_replacing_leaves_no_embedding_of_another_origin(folder: Path, tmp_path: Path) -> None:
    made, _ = read_embeddings(folder)
    theirs = live(past_of(jsonl.events(people(tmp_path / "own.jsonl", 10, embedded=True)), VERBS).items)
    few = Embeddings(made.fp[:-7], made.ids[:-7], made.vectors[:-7])
    publication = Publication(few, theirs)
    changes = [change_of(event) for event in publication.events(BEGIN_MS, publication.own(None))]
    after = theirs | live(changes)
    assert (publication.sent, publication.taken, publication.without) == (ITEMS - 7, 7, 7)
    bare = [record for record in after.values() if record.embedding is None]
    assert {record.item_id for record in bare} == set(made.ids[-7:])
    told = {record.item_id: (record.author, record.topics) for record in theirs.values()}
    assert all((record.author, record.topics) == told[record.item_id] for record in bare)
    assert Publication(few, after).own(None) == []


def test_only_what_was_liked_and_not_withdrawn_counts(tmp_path: Path) -> None:
    acts = [("u1", "like", "i1"), ("u1", "impression", "i2"), ("u1", "hide", "i3"), ("u2", "like", "i1")]
    acts += [("u3", "click", f"i{n}") for n in range(USER_ITEMS_MAX + 50)]
    lines: list[dict[str, object]] = [
        {
            "type": "activity",
            "actor": a,
            "verb": v,
            "object": o,
            "event_time": BEGIN_MS + n,
            "activity_id": f"e{n}",
        }
        for n, (a, v, o) in enumerate(acts)
    ]
    lines.append(
        {"type": "activity", "actor": "u2", "verb": "undo", "object": "i1", "event_time": BEGIN_MS + 9_000,
         "activity_id": "undo", "undone_verb": "like", "undone_event_time": BEGIN_MS + 3}
    )  # fmt: skip
    file = tmp_path / "acts.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = engagements(past_of(jsonl.events(file), VERBS).partitions, VERBS)
    per_user = np.bincount(found.user)
    assert per_user.tolist() == [1, USER_ITEMS_MAX], "u1's like and u3's newest; u2 took theirs back"
    assert found.time_ms[found.user == 1].min() == BEGIN_MS + 4 + 50


def test_folders_that_lie_and_pasts_that_say_too_little(
    file: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = people(tmp_path / "few.jsonl", acts=10)
    assert cli.run(["embeddings", "jsonl", str(few), str(tmp_path / "x")]) == ExitCode.BAD_INPUT
    assert "8 are needed" in capsys.readouterr().err
    assert cli.run(["embeddings", "similar", str(folder), "nothing"]) == ExitCode.BAD_INPUT
    (tmp_path / "lie").mkdir()
    for name in (MANIFEST, VECTORS):
        (tmp_path / "lie" / name).write_bytes((folder / name).read_bytes())
    with (tmp_path / "lie" / VECTORS).open("r+b") as vectors:
        vectors.seek(-40, 2)
        vectors.write(b"\x01")
    assert cli.run(["embeddings", "similar", str(tmp_path / "lie"), "i1"]) == ExitCode.BAD_INPUT
    assert "its hash does not fit" in capsys.readouterr().err
    manifest = json.loads((tmp_path / "lie" / MANIFEST).read_text())
    (tmp_path / "lie" / MANIFEST).write_text(json.dumps(manifest | {"items": 1}))
    assert cli.run(["embeddings", "similar", str(tmp_path / "lie"), "i1"]) == ExitCode.BAD_INPUT
    assert "the manifest was changed" in capsys.readouterr().err
    assert cli.run(["embeddings", "similar", str(tmp_path), "i1"]) == ExitCode.BAD_INPUT
    assert cli.run(["embeddings", "jsonl", str(file), str(tmp_path)]) != ExitCode.OK, "that is no such folder"


def test_the_arithmetic_of_vectors() -> None:
    rng = np.random.default_rng(1)
    vectors = unit(rng.normal(size=(50, 8)))
    turn, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    rows = np.arange(50)
    assert aligned(vectors @ turn, vectors, (rows, rows)) == pytest.approx(vectors)
    assert aligned(vectors, vectors, (rows[:0], rows[:0])) is vectors
    assert signed(-signed(vectors)) == pytest.approx(signed(vectors))
    found, cosines = similar(vectors, rows[:3], 60)
    assert (found[:, 49:] == -1).all()
    assert found[0].tolist()[:49] == [n for n in np.argsort(-(vectors @ vectors[0])).tolist() if n != 0]
    assert np.nanmax(cosines) <= 1 + 1e-9
    scores = np.array([[3.0, 2.0, 1.0, 0.0]])
    known, wanted = np.array([[True, False, False, False]]), np.array([[True, False, True, True]])
    assert recall(scores, known, wanted, 2).tolist() == [0.5]
    assert np.isnan(recall(scores, known, known, 2)).all()


@pytest.mark.kafka
def test_from_the_topics_and_back(
    public_kafka: str,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", public_kafka)
    for asked in (["topics", "create", "--partitions", "2"], ["topics", "create", "--keep-all"]):
        assert cli.run(asked) == ExitCode.OK
    assert cli.run(["load", "jsonl", str(file)]) == ExitCode.OK
    folder = tmp_path / "vectors"
    assert cli.run(["embeddings", "topics", str(folder)]) == ExitCode.OK
    capsys.readouterr()
    assert cli.run(["embeddings", "publish", str(folder)]) == ExitCode.OK
    assert (
        f"{ITEMS} items sent with their vectors, 0 had them, 0 live items have none"
        in capsys.readouterr().out
    )
    made, _ = read_embeddings(folder)
    stored = {one.item_id: one.embedding for one in live(items_of(Settings.load())).values()}
    for name, vector in zip(made.ids, quantised(made), strict=True):
        embedding = stored[name]
        assert embedding is not None
        assert (embedding == vector).all()
    assert cli.run(["embeddings", "publish", str(folder)]) == ExitCode.OK
    assert f"0 items sent with their vectors, {ITEMS} had them" in capsys.readouterr().out
    more = people(tmp_path / "more.jsonl", acts=12_000, seed=2)
    newer = str(tmp_path / "new")
    assert cli.run(["embeddings", "jsonl", str(more), newer, "--previous", str(folder)]) == ExitCode.OK
    assert cli.run(["embeddings", "publish", newer]) == ExitCode.BAD_INPUT
    assert "bring embeddings of their own" in capsys.readouterr().err
    assert cli.run(["embeddings", "publish", newer, "--previous", str(folder)]) == ExitCode.OK
    assert f"{ITEMS} items sent" in capsys.readouterr().out
