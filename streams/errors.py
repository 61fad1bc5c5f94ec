"""Errors that an operator can act on, and the exit code that each ends the process with (all steps)."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The one table of exit codes; `docs/operations.md` explains each, and a test compares them."""

    OK = 0
    USAGE = 2
    BROKER_UNREACHABLE = 3
    TOPICS_WRONG = 4
    DATA_DIRECTORY = 5
    POSITION_OUTSIDE_LOG = 6
    PORT_TAKEN = 7
    POLICY = 8
    REDIS_UNREACHABLE = 9
    STALLED = 10
    FENCED = 11
    BAD_INPUT = 12
    NOT_READY = 13
    DIFFERENT = 14
    API_UNREACHABLE = 15
    INTERNAL = 70
    INTERRUPTED = 130


MEANING: dict[ExitCode, str] = {
    ExitCode.OK: "Stopped or finished as asked.",
    ExitCode.USAGE: "A setting or the command line is wrong.",
    ExitCode.BROKER_UNREACHABLE: "Kafka (or the schema registry) does not answer.",
    ExitCode.TOPICS_WRONG: "A topic is missing, not co-partitioned or has the wrong configuration.",
    ExitCode.DATA_DIRECTORY: "The data directory is full, read-only, damaged or held by another worker.",
    ExitCode.POSITION_OUTSIDE_LOG: "The position to go on from is before the log's start or past its end.",
    ExitCode.PORT_TAKEN: "A port to listen on is taken.",
    ExitCode.POLICY: "The policy file is missing or wrong.",
    ExitCode.REDIS_UNREACHABLE: "Redis does not answer (commands that need it at once).",
    ExitCode.STALLED: (
        "Nothing moved in time: the watchdog stopped the worker, or `feedrank settle`, `act` "
        "or the demo gave up."
    ),
    ExitCode.FENCED: "Another worker has taken over a partition of this one; a supervisor should restart it.",
    ExitCode.BAD_INPUT: "The input of a command (a file, a dead letter, an item) is wrong.",
    ExitCode.NOT_READY: "Refused: a namespace is not ready to be read, or someone else was faster.",
    ExitCode.DIFFERENT: "Stored rows are not what the topics say (`feedrank state verify`).",
    ExitCode.API_UNREACHABLE: "The API does not answer (`feedrank act`).",
    ExitCode.INTERNAL: "A defect: something that should not happen did.",
    ExitCode.INTERRUPTED: "Interrupted with Ctrl-C before the command had finished.",
}


class OperatorError(Exception):
    """Something that an operator can mend. `message` says what happened, where, and what to do.

    Commands print the message without a traceback and exit with `exit_code`.
    """

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
