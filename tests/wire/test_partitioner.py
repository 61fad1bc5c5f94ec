"""Keys go to the partitions where Kafka's Java client sends them."""

from __future__ import annotations

import numpy as np
import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from wire.partitioner import murmur2, partition_of, partitions_of, partitions_of_packed

# org.apache.kafka.common.utils.UtilsTest#testMurmur2 of Apache Kafka.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), JAVA.items())
def test_the_hash_is_the_one_of_kafkas_own_tests(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


@given(st.binary(max_size=140))
def test_the_hash_is_the_one_of_another_client(key: bytes) -> None:
    assert murmur2(key) == aiokafka_murmur2(key) & 0xFFFFFFFF


@given(st.lists(st.binary(max_size=140), max_size=50), st.integers(1, 1000))
def test_a_batch_goes_where_its_keys_go_one_by_one(keys: list[bytes], partitions: int) -> None:
    assert partitions_of(keys, partitions).tolist() == [partition_of(k, partitions) for k in keys]


def test_packed_keys_may_lie_anywhere_in_the_buffer() -> None:
    data = b"..foobar..abc"
    found = partitions_of_packed(data, np.array([10, 2]), np.array([3, 6]), 12)
    assert found.tolist() == [partition_of(b"abc", 12), partition_of(b"foobar", 12)]
