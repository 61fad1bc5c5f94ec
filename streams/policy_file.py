"""Reading the policy's file; `models.policy` knows only its text (before step 1)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from models.policy import Policy, PolicyError, parse_policy
from streams.errors import ExitCode, OperatorError

BUNDLED = "default_policy.toml"


def read_policy(path: Path | None = None) -> Policy:
    """The policy in a file, or the bundled one. Raises OperatorError (exit code POLICY)."""
    try:
        return parse_policy(policy_text(path), str(path or BUNDLED))
    except PolicyError as error:
        raise OperatorError(str(error), ExitCode.POLICY) from error


def policy_text(path: Path | None = None) -> str:
    """The text of a policy file, or of the bundled one. Raises OperatorError where it cannot be read."""
    try:
        if path is None:
            return files("models").joinpath(BUNDLED).read_text(encoding="utf-8")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        problem = f"the policy {path} cannot be read ({error.strerror}); correct FEEDRANK_POLICY or the path"
        raise OperatorError(problem, ExitCode.POLICY) from error
    except UnicodeDecodeError as error:
        problem = f"the policy {path} is not UTF-8 text (byte {error.start}); save it as UTF-8"
        raise OperatorError(problem, ExitCode.POLICY) from error
