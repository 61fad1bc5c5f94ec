"""Trained models of a replay (9): copies in the shadow, so that training anew meanwhile changes no byte.

What the policy names is copied to `models/<role>` when the replay is defined. `with_model` is for
`feedrank replay --model`: one folder takes the place of whatever models the policy names.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

from models.policy import Policy
from models.score import Scorer
from streams.errors import ExitCode, OperatorError
from topologies.model_watch import folders_of, scorer_from
from topologies.replay.shadow import Shadow, disk_error

ONLY_MODEL = "models/light"
"""The folder that `with_model` names; relative to the shadow, where `keep_models` puts it."""
_TABLE = re.compile(r"^[ \t]*\[[ \t]*model[ \t]*\][^\n]*\n(?:(?![ \t]*\[)[^\n]*(?:\n|\Z))*", re.M)


def with_model(text: str) -> str:
    """The policy with one model, which scores all candidates.

    Raises OperatorError (policy) where the policy's own models are not in a plain table.
    """
    rest = _TABLE.sub("", text if text.endswith("\n") else text + "\n")
    changed = f'{rest}\n[model]\nlight = "{ONLY_MODEL}"\n'
    wanted = tomllib.loads(text) | {"model": {"light": ONLY_MODEL}}
    try:
        same = tomllib.loads(changed) == wanted
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise OperatorError(
            "--model cannot take the place of the models that the policy names; write them as a table "
            "[model], or name the model there and leave --model out",
            ExitCode.POLICY,
        )
    return changed


def keep_models(shadow: Shadow, folders: Mapping[str, Path]) -> None:
    """Copy models (role -> folder) into the shadow. Raises OperatorError when the disk does not take them."""
    for role, folder in folders.items():
        try:
            shutil.copytree(folder, shadow.model(role))
        except (OSError, shutil.Error) as error:
            raise disk_error(shadow.model(role), _os_error(error)) from error


def _os_error(error: OSError) -> OSError:
    """copytree gathers what went wrong as texts in a list."""
    return OSError(0, str(error)) if isinstance(error, shutil.Error) else error


def scorer_of_shadow(shadow: Shadow, policy: Policy) -> Scorer:
    """The model that a replay ranks with. Raises OperatorError when its copy is damaged."""
    return scorer_from(policy, {role: shadow.model(role) for role in folders_of(policy.model, Path())})


def place_models(shadow: Shadow, policy: Policy) -> None:
    """Copies where the policy looks for models once it lies in the shadow: for workers that go on there.

    A model that is named by an absolute path is read where it is. Raises OperatorError."""
    for role, folder in folders_of(policy.model, shadow.directory).items():
        if folder.resolve().is_relative_to(shadow.directory.resolve()) and not folder.exists():
            try:
                shutil.copytree(shadow.model(role), folder)
            except (OSError, shutil.Error) as error:
                raise disk_error(folder, _os_error(error)) from error
