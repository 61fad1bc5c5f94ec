"""Policy: verbs, values, weights, budgets, surfaces and rules as data (used by every step from 1 to 11).

    policy = parse_policy(text, "policy.toml")

One TOML text makes one frozen `Policy`, or a PolicyError that names the line. Reading files is the caller's.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from xxhash import xxh3_64_hexdigest

from models.candidates import SOURCE_NAMES, CandidateLimits, SourceLimit
from models.features import FEATURE_NAMES
from models.model_choice import ModelChoice, model_choice
from models.policy_source import PolicyError, Section, read
from models.slate_rule import SlateRule, slate_rule
from models.tables import GRID
from models.verbs import GraphAct, Role, Verb, VerbTable

__all__ = [
    "HEADS",
    "RULE_NAMES",
    "Budgets",
    "Fallbacks",
    "FeedShape",
    "ModelChoice",
    "Policy",
    "PolicyError",
    "RuleNumbers",
    "Surface",
    "parse_policy",
]

HEADS = (Role.WEAK, Role.STRONG, Role.NEGATIVE)
"""What the default model predicts: one probability per role that items are counted by."""

SURFACES = ("for_you", "following")
DROPS = ("own", "future", "too_old", "hidden", "seen", "blocked", "muted", "keyword", "duplicate")
CHANGES = ("fatigue", "out_of_network", "author_diversity")
RULE_NAMES = (*DROPS, *CHANGES)
VALUE_MAX = 64
WEIGHT_MAX = 64
DAY_MS = 86_400_000
HOUR_S = 3_600
FEED_LENGTH_MAX = 500


@dataclass(frozen=True, slots=True)
class FeedShape:
    """`length`: entries of a feed; older items than `item_age_ms_max` leave it; users without a sign of life
    for `active_days` get none; a feed is refreshed when it is older than `stale_after_s`."""

    length: int
    item_age_ms_max: int
    active_days: int
    stale_after_s: int


@dataclass(frozen=True, slots=True)
class Budgets:
    """`feeds_per_s`: ranked per worker at most; authors with more followers than `fanout_followers_max` make
    nobody due; `served_features_share`: share of users whose served log carries features."""

    feeds_per_s: int
    fanout_followers_max: int
    served_features_share: float


@dataclass(frozen=True, slots=True)
class Fallbacks:
    """Feeds for those without one: `length` entries, global and for `topics`, made every `refresh_s`."""

    length: int
    topics: int
    refresh_s: int


@dataclass(frozen=True, slots=True)
class Surface:
    """`rules`: names out of RULE_NAMES, in its order. `explore_share`: P(a slot explores)."""

    name: str
    rules: tuple[str, ...]
    explore_share: float
    slate: SlateRule = field(default_factory=SlateRule)


@dataclass(frozen=True, slots=True)
class RuleNumbers:
    """Thresholds and factors; factors are grid integers (units of 1/4096) in 0..4096."""

    seen_times_max: int
    fatigue_factor: int
    out_of_network_factor: int
    author_diversity_decay: int
    author_diversity_floor: int


@dataclass(frozen=True, slots=True)
class Policy:
    """`version`: the file's own word, a dash and `hash` (8 hex digits of the content, comments left out).

    `values`: what a certain action of each of HEADS is worth, grid integers. `weights[head][feature]`: of the
    lifts' sums, grid integers; features without weight are absent.
    """

    version: str
    hash: str
    verbs: VerbTable
    feed: FeedShape
    budgets: Budgets
    fallbacks: Fallbacks
    candidates: CandidateLimits
    surfaces: Mapping[str, Surface]
    rules: RuleNumbers
    values: Mapping[Role, int]
    weights: Mapping[Role, Mapping[str, int]]
    model: ModelChoice = field(default_factory=ModelChoice)


def parse_policy(text: str, name: str = "policy") -> Policy:
    """The policy in a TOML text. Raises PolicyError: file `name`, line, key, what is wrong, what to do."""
    root = read(text, name)
    word = root.text("version", r"[A-Za-z0-9._-]{1,32}", "a word of 1 to 32 letters, digits, '.', '_', '-'")
    verbs = _verbs(root.section("verbs", required=True))
    digest = _digest(text)
    policy = Policy(
        version=f"{word}-{digest}",
        hash=digest,
        verbs=verbs,
        feed=_feed(root.section("feed")),
        budgets=_budgets(root.section("budgets")),
        fallbacks=_fallbacks(root.section("fallbacks")),
        candidates=_candidates(root.section("candidates", required=True)),
        surfaces=_surfaces(root.section("surfaces", required=True)),
        rules=_rules(root.section("rules")),
        values={head: _value(verbs, head) for head in HEADS},
        weights=_weights(root.section("lift", required=True)),
        model=model_choice(root.section("model")),
    )
    root.close()
    return policy


def grid(value: float) -> int:
    """The nearest multiple of 1/4096, halves up, in units of 1/4096; exact for any float.

    >>> grid(0.75), grid(-0.1)
    (3072, -410)
    """
    return (Fraction(value) * GRID + Fraction(1, 2)).__floor__()


def _digest(text: str) -> str:
    content = json.dumps(tomllib.loads(text), sort_keys=True, ensure_ascii=False, default=str)
    return xxh3_64_hexdigest(content.encode())[:8]


def _verbs(section: Section) -> VerbTable:
    verbs = [_verb(key, one) for key, one in section.sections()]
    roles = {verb.role for verb in verbs}
    for role in (Role.EXPOSURE, Role.STRONG, Role.UNDO):
        if role not in roles:
            raise section.error("", f"has no verb of role {role.name.lower()}; add one")
    try:
        return VerbTable(verbs)
    except ValueError as error:
        raise section.error("", f"cannot be used: {error}") from error


def _verb(name: str, section: Section) -> Verb:
    if not name.replace("_", "").isalnum() or not name.isascii() or len(name) > 32:
        raise section.error("", "is no name for a verb; use 1 to 32 letters, digits and '_'")
    role = Role[section.choice("role", [r.name.lower() for r in Role]).upper()]
    acts = [a.name.lower() for a in GraphAct if a is not GraphAct.NONE]
    graph = GraphAct[section.choice("graph", acts).upper()] if role is Role.GRAPH else GraphAct.NONE
    verb = Verb(
        name,
        role,
        affinity=section.whole("affinity", -64, 64, 0),
        value=section.number("value", -VALUE_MAX, VALUE_MAX, 0.0),
        half_life_s=section.whole("half_life_h", 1, 24 * 365, 24) * HOUR_S,
        makes_due=section.flag("makes_due", False),
        label_window_s=section.whole("label_window_s", 1, 30 * 86_400, 1_800),
        graph=graph,
    )
    if (verb.value > 0 and role is Role.NEGATIVE) or (verb.value < 0 and role in (Role.WEAK, Role.STRONG)):
        raise section.error("value", f"is {verb.value:g} for the role {role.name.lower()}; change its sign")
    if role not in HEADS and (verb.value or verb.affinity):
        key = "value" if verb.value else "affinity"
        raise section.error(key, f"has no effect on the role {role.name.lower()}; remove it")
    section.close()
    return verb


def _value(verbs: VerbTable, head: Role) -> int:
    """State counts by role, so a head stands for all its verbs: the mean of their values (zeros left out)."""
    values = [Fraction(v.value) for v in verbs.verbs if v.role is head and v.value]
    mean = sum(values, Fraction(0)) / max(len(values), 1)
    return (mean * GRID + Fraction(1, 2)).__floor__()


def _feed(section: Section) -> FeedShape:
    shape = FeedShape(
        length=section.whole("length", 1, FEED_LENGTH_MAX, 100),
        item_age_ms_max=section.whole("item_age_days_max", 1, 36_500, 60) * DAY_MS,
        active_days=section.whole("active_days", 1, 365, 14),
        stale_after_s=section.whole("stale_after_s", 1, 30 * 86_400, 3_600),
    )
    section.close()
    return shape


def _budgets(section: Section) -> Budgets:
    budgets = Budgets(
        feeds_per_s=section.whole("feeds_per_s", 1, 1_000_000, 500),
        fanout_followers_max=section.whole("fanout_followers_max", 0, 100_000_000, 10_000),
        served_features_share=section.number("served_features_share", 0, 1, 0.05),
    )
    section.close()
    return budgets


def _fallbacks(section: Section) -> Fallbacks:
    fallbacks = Fallbacks(
        length=section.whole("length", 1, FEED_LENGTH_MAX, 100),
        topics=section.whole("topics", 0, 10_000, 100),
        refresh_s=section.whole("refresh_s", 1, 86_400, 60),
    )
    section.close()
    return fallbacks


def _candidates(section: Section) -> CandidateLimits:
    count = section.whole("count", 1, 2_000, 400)
    cell_items = section.whole("cell_items", 1, 1_000, CandidateLimits().cell_items)
    table = section.section("sources", required=True)
    sources = {}
    for name, one in table.sections():
        if name not in SOURCE_NAMES:
            raise table.error(name, "is no source; choose from " + ", ".join(SOURCE_NAMES))
        reach = one.whole("reach", 1, 1_000)
        sources[name] = SourceLimit(one.whole("quota", 0, reach), reach)
        one.close()
    if not sources:
        raise section.error("sources", "names no source; add one of " + ", ".join(SOURCE_NAMES))
    section.close()
    return CandidateLimits(count, cell_items, sources)


def _surfaces(section: Section) -> Mapping[str, Surface]:
    surfaces = {}
    for name in SURFACES:
        one = section.section(name, required=True)
        rules = one.choices("rules", RULE_NAMES)
        if list(rules) != sorted(rules, key=RULE_NAMES.index):
            raise one.error(
                "rules", "are in another order; rules apply in the order " + ", ".join(RULE_NAMES)
            )
        slate = slate_rule(one.section("slate"), name)
        surfaces[name] = Surface(name, rules, one.number("explore_share", 0, 0.5, 0.0), slate)
        one.close()
    ranked = [r for r in surfaces["following"].rules if r in CHANGES]
    if ranked:
        raise section.section("following").error("rules", f"has {ranked[0]}, which changes scores; remove it")
    section.close()
    return surfaces


def _rules(section: Section) -> RuleNumbers:
    numbers = RuleNumbers(
        seen_times_max=section.whole("seen_times_max", 1, 1_000, 3),
        fatigue_factor=grid(section.number("fatigue_factor", 0, 1, 0.7)),
        out_of_network_factor=grid(section.number("out_of_network_factor", 0, 1, 0.75)),
        author_diversity_decay=grid(section.number("author_diversity_decay", 0, 1, 0.5)),
        author_diversity_floor=grid(section.number("author_diversity_floor", 0, 1, 0.25)),
    )
    section.close()
    return numbers


def _weights(section: Section) -> Mapping[Role, Mapping[str, int]]:
    weights = {}
    for head in HEADS:
        one = section.section(head.name.lower(), required=True)
        found = {}
        for feature in one.values:
            if feature not in FEATURE_NAMES:
                raise one.error(feature, "is no feature; `feedrank features` lists them")
            found[feature] = grid(one.number(feature, -WEIGHT_MAX, WEIGHT_MAX))
        weights[head] = {feature: weight for feature, weight in found.items() if weight}
    section.close()
    return weights
