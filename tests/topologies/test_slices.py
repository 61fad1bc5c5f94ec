from hypothesis import given
from hypothesis import strategies as st

from topologies.emission import slices


@given(st.lists(st.integers(1, 50), max_size=6), st.integers(1, 16))
def test_slices_keep_every_user_in_order_and_none_is_too_large(counts: list[int], users_max: int) -> None:
    parts = [(shard, [b"%d-%d" % (shard, i) for i in range(n)]) for shard, n in enumerate(counts)]
    cut = list(slices(parts, users_max))  # type: ignore[arg-type]
    assert all(1 <= sum(len(users) for _, users in one) <= users_max for one in cut)
    assert [u for one in cut for _, users in one for u in users] == [u for _, users in parts for u in users]
