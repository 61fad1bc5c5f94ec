"""A policy is one text; a wrong one is refused with its line, the key, what is wrong and what to do."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

import models
from models.features import FEATURE_NAMES
from models.policy import HEADS, RULE_NAMES, Policy, PolicyError, grid, parse_policy
from models.policy_check import variance_shares
from models.rules import CHANGES, DROPS
from models.verbs import GraphAct, Role

TEXT = (Path(models.__file__).parent / "default_policy.toml").read_text()
DOCS = Path(models.__file__).parents[1] / "docs" / "policy.md"


def broken(old: str, new: str) -> PolicyError:
    assert old in TEXT
    with pytest.raises(PolicyError) as raised:
        parse_policy(TEXT.replace(old, new, 1), "my.toml")
    return raised.value


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_the_bundled_policy_is_good() -> None:
    policy = parse_policy(TEXT)
    assert policy.verbs.role[policy.verbs.code["like"]] == Role.STRONG
    assert policy.verbs.graph[policy.verbs.code["mute"]] == GraphAct.MUTE
    assert policy.feed.length == 100
    assert policy.surfaces["for_you"].explore_share == 0.02
    assert policy.rules.out_of_network_factor == 3072
    assert policy.values[Role.WEAK] == 4096
    assert policy.values[Role.NEGATIVE] < 0
    assert all(set(policy.weights[head]) <= set(FEATURE_NAMES) for head in HEADS)


@pytest.mark.parametrize("value", ["[" * 3_000 + "]" * 3_000, "{a=" * 3_000 + "1" + "}" * 3_000, "9" * 5_000])
def test_what_python_cannot_hold_is_a_policy_error(value: str) -> None:
    with pytest.raises(PolicyError, match=r"my\.toml: this cannot be read"):
        parse_policy(f"{TEXT}\nx = {value}\n", "my.toml")


def test_rules_of_policies_are_those_that_exist() -> None:
    assert tuple(r.name for r in (*DROPS, *CHANGES)) == RULE_NAMES


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ('version = "default-1"', "version = 3", "version", "1 to 32 letters"),
        ("length = 100", "length = 0", "feed.length", "is 0, it must be a whole number from 1 to 500"),
        ("length = 100", "lenght = 100", "feed.lenght", "is not known; remove it or correct its name"),
        ("length = 100", "length = true", "feed.length", "is true, it must be a whole number"),
        ("half_life_h = 12", "half_life_h = 1.5", "verbs.click.half_life_h", "whole number from 1"),
        ('role = "exposure"', 'role = "shown"', "verbs.impression.role", "one of exposure, weak"),
        ('graph = "mute"', 'graph = "poke"', "verbs.mute.graph", "one of follow, mute, block"),
        ("value = 1.0", "value = -1.0", "verbs.click.value", "change its sign"),
        ("value = 1.0", "value = nan", "verbs.click.value", "number from -64 to 64"),
        ("affinity = 2", "affinity = 99", "verbs.click.affinity", "-64 to 64"),
        ('role = "exposure"', 'role = "exposure"\naffinity = 1', "verbs.impression.affinity", "no effect"),
        ("in_network = {", "neighbours = {", "candidates.sources.neighbours", "is no source"),
        (
            "embedding = { quota = 80,",
            "embedding = { quota = 800,",
            "candidates.sources.embedding.quota",
            "from 0",
        ),
        ('"own", "future"', '"future", "own"', "surfaces.for_you.rules", "rules apply in the order"),
        ('"own", "future"', '"own", "own"', "surfaces.for_you.rules", "twice"),
        ('"own", "future"', '"mine", "future"', "surfaces.for_you.rules", "names 'mine'; choose from"),
        ("explore_share = 0.02", "explore_share = 2", "surfaces.for_you.explore_share", "from 0 to 0.5"),
        ("age = -0.1", "aeg = -0.1", "lift.weak.aeg", "is no feature; `feedrank features` lists them"),
        ("age = -0.1", "age = 1e9", "lift.weak.age", "number from -64 to 64"),
        ("[rules]", "[rules", "", "this is not TOML"),
        ("[feed]", "[feeed]", "feeed", "is not known"),
    ],
)
def test_a_wrong_policy_is_refused_with_its_line(old: str, new: str, key: str, says: str) -> None:
    error = broken(old, new)
    assert error.key == key
    assert error.line == line_of(TEXT, old) + new.count("\n")
    assert str(error).startswith(f"my.toml, line {error.line}: {key}")
    assert says in str(error)


def test_missing_tables_are_named() -> None:
    assert "add a table [lift.weak]" in str(broken("[lift.weak]", "[lift.week]"))
    with pytest.raises(PolicyError, match="verbs is missing"):
        parse_policy('version = "x"')
    undo = '[verbs.undo]\nrole = "undo"\nmakes_due = true\n'
    assert "has no verb of role undo" in str(broken(undo, ""))
    many = "".join(f'[verbs.v{i}]\nrole = "weak"\n' for i in range(20))
    assert "at most 32 fit" in str(broken("[feed]", many + "[feed]"))


def test_lines_are_right_past_long_strings_lists_and_comments() -> None:
    text = TEXT.replace(
        'version = "default-1"', '# length = 0 [feed]\nversion = """default-1"""  # [lift.weak]\n'
    ).replace("[budgets]", "[budgets]\n# x = { [\n")
    text = re.sub(r"rules = \[", "rules = [\n  # length = 3\n", text).replace(
        "refresh_s = 60", "refresh_s = 0"
    )
    with pytest.raises(PolicyError) as raised:
        parse_policy(text)
    assert raised.value.line == line_of(text, "refresh_s = 0")


def test_the_hash_follows_the_content_not_the_comments() -> None:
    policy = parse_policy(TEXT)
    assert policy.version == f"default-1-{policy.hash}"
    assert parse_policy(TEXT + "\n# more\n").version == policy.version
    assert parse_policy(TEXT.replace("explore_share = 0.02", "explore_share = 0.03")).hash != policy.hash


def test_verbs_of_a_domain_need_no_code() -> None:
    text = TEXT.replace(
        "[verbs.undo]", '[verbs.purchase]\nrole = "strong"\nvalue = 64\naffinity = 64\n\n[verbs.undo]'
    )
    policy = parse_policy(text)
    assert policy.verbs.verbs[policy.verbs.code["purchase"]].affinity == 64
    assert policy.values[Role.STRONG] > parse_policy(TEXT).values[Role.STRONG]


def test_a_value_of_a_head_is_the_mean_of_its_verbs() -> None:
    verbs = tomllib.loads(TEXT)["verbs"].values()
    for head, value in parse_policy(TEXT).values.items():
        values = [v["value"] for v in verbs if v["role"] == head.name.lower() and v.get("value")]
        assert value == grid(sum(values) / len(values))


def test_every_key_of_the_bundled_policy_is_documented() -> None:
    page = DOCS.read_text()
    document = tomllib.loads(TEXT)
    keys = {k for v in document["verbs"].values() for k in v} | set(document)
    keys |= {k for t in ("feed", "budgets", "fallbacks", "candidates", "rules") for k in document[t]}
    keys |= {k for s in document["surfaces"].values() for k in s} | set(RULE_NAMES)
    keys |= set(document["candidates"]["sources"]) | {"quota", "reach", "label_window_s"}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


def without_value(policy: Policy, *heads: Role) -> Policy:
    return replace(policy, values={h: 0 if h in heads else v for h, v in policy.values.items()})


def test_shares_of_variance_add_up_and_name_who_rules_alone() -> None:
    policy = parse_policy(TEXT)
    shares = variance_shares(policy)
    assert sum(one.share for one in shares) == pytest.approx(1)
    assert not any(one.rules_alone for one in shares)
    alone = variance_shares(without_value(policy, Role.WEAK, Role.NEGATIVE))
    assert [one.rules_alone for one in alone] == [False, True, False]
    assert [one.share for one in variance_shares(without_value(policy, *HEADS))] == [0, 0, 0]
