"""The policy's models in the job (9): loaded at start, and again when a folder holds another one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.learned.cascade import Cascade
from models.model_choice import ModelChoice
from models.policy import Policy
from models.score import RateLift, Scorer
from streams.errors import OperatorError
from streams.log import logger
from streams.manifest import MANIFEST
from streams.metrics import Metrics
from streams.turns import Turns
from topologies.model_folder import read_model

POLL_S = 5.0
TURN = "model"
LOADED, REFUSED = "loaded", "refused"

log = logger(__name__)


def folders_of(choice: ModelChoice, root: Path) -> dict[str, Path]:
    """Role (`light`, `heavy`) -> folder of the models that are named; relative ones are below `root`."""
    named = {"light": choice.light, "heavy": choice.heavy}
    return {role: root / folder for role, folder in named.items() if folder is not None}


def scorer_of(policy: Policy, root: Path) -> Scorer:
    """What the policy's `[model]` names; relative folders are below `root`. Raises OperatorError."""
    return scorer_from(policy, folders_of(policy.model, root))


def scorer_from(policy: Policy, folders: Mapping[str, Path]) -> Scorer:
    """The same of models that lie in these folders (by role). Raises OperatorError."""
    light = read_model(folders["light"], policy) if "light" in folders else RateLift(policy)
    if "heavy" not in folders:
        return light
    return Cascade(light, read_model(folders["heavy"], policy), policy.model.heavy_candidates)


@dataclass(slots=True)
class ModelWatch:
    """Gives `use` the scorer of `[model]`, and a new one when a manifest changes. A folder that does not load
    leaves the old one in place: feeds go on, the log and a metric say so."""

    policy: Policy
    root: Path
    use: Callable[[Scorer], None]
    metrics: Metrics
    turns: Turns = field(default_factory=Turns)
    poll_s: float = POLL_S
    _stamp: tuple[bytes, ...] = field(default=())

    @property
    def folders(self) -> list[Path]:
        """The models that are named."""
        return list(folders_of(self.policy.model, self.root).values())

    def start(self) -> None:
        """Load before anything is ranked. Raises OperatorError."""
        if self.folders:
            self._stamp = self._stamps()
            self.use(scorer_of(self.policy, self.root))
            self.metrics.add(self.metrics.models, 1, LOADED)

    async def run(self) -> None:
        """Look again and again; returns at once where the policy names no model."""
        while self.folders:
            await asyncio.sleep(self.poll_s)
            await self.look()

    async def look(self) -> None:
        """Take over what changed; reading happens beside the loop."""
        stamp = await asyncio.to_thread(self._stamps)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            scorer = await asyncio.to_thread(scorer_of, self.policy, self.root)
        except OperatorError as error:
            self.metrics.add(self.metrics.models, 1, REFUSED)
            log.error("a model is refused, the one before it stays", why=error.message)
            return
        await self.turns.take(TURN)
        self.use(scorer)
        self.metrics.add(self.metrics.models, 1, LOADED)
        log.info("ranks with another model", model=scorer.name)

    def _stamps(self) -> tuple[bytes, ...]:
        """The manifests as they are; b"" where one is missing (it may be about to be replaced)."""
        return tuple(_bytes(folder / MANIFEST) for folder in self.folders)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
