"""Holes that compaction left are told, by what stands in the log; transactions and markers are none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streams.errors import ExitCode, OperatorError
from streams.faust_private.raw import RawFetch, batches_of
from tests.streams.logs import ABORT, COMMIT, Log
from tests.streams.test_fetch import raw
from topologies.replay.kafka_log import demand_whole

VALUES: list[bytes | None] = [b"a", b"b", b"c"]


def fetched(log: Log, start: int = 0) -> RawFetch:
    """As the replay's consumer hands it out."""
    fetch, data = raw(log, start), log.since(start)
    fields = {name: getattr(fetch, name) for name in fetch.__slots__}
    return RawFetch(**{**fields, "raw": batches_of(data, len(fetch.batches))})


def whole() -> Log:
    log = Log()
    log.append(VALUES)
    for how in (COMMIT, ABORT):
        log.append(VALUES, producer=7, gzip=True)
        log.finish(7, how)
    log.append([None])
    return log


@pytest.mark.parametrize("start", range(12))
def test_a_log_of_transactions_is_whole_from_anywhere(start: int) -> None:
    demand_whole(fetched(whole(), start))


@pytest.mark.parametrize(
    ("take_away", "between"),
    [(lambda log: log.append(VALUES, removed=2), "12 and 16"), (lambda log: log.gap(5), "12 and 19")],
)
def test_what_compaction_took_is_refused(take_away: Callable[[Log], None], between: str) -> None:
    log = whole()
    take_away(log)
    log.append(VALUES)
    with pytest.raises(OperatorError, match=f"compacted in part: records between offsets {between}") as told:
        demand_whole(fetched(log))
    assert told.value.exit_code is ExitCode.TOPICS_WRONG
