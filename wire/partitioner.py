"""Which partition a key belongs to: murmur2 as Kafka's Java client has it, one key at a time or a batch.

Java's default partitioner, aiokafka's, and librdkafka's with `partitioner=murmur2_random` agree with it;
librdkafka's own default (CRC32) does not. Source: org.apache.kafka.common.utils.Utils.murmur2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SEED = 0x9747B28C
_M = 0x5BD1E995
_R = 24
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]


def murmur2(key: bytes) -> int:
    """The hash as an unsigned 32-bit number.

    >>> murmur2(b"foobar") - (1 << 32)
    -790332482
    """
    h = _SEED ^ len(key)
    words = len(key) & ~3
    for at in range(0, words, 4):
        k = int.from_bytes(key[at : at + 4], "little") * _M & _MASK
        k = (k ^ k >> _R) * _M & _MASK
        h = h * _M & _MASK ^ k
    if tail := key[words:]:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of `key` in a topic of `partitions`.

    >>> partition_of(b"foobar", 4)
    2
    """
    return (murmur2(key) & _POSITIVE) % partitions


def partitions_of(keys: Sequence[bytes], partitions: int) -> I64:
    """int64[n]: the partition of each key."""
    lengths = np.fromiter(map(len, keys), np.int64, len(keys))
    starts = np.cumsum(lengths) - lengths
    return partitions_of_packed(b"".join(keys), starts, lengths, partitions)


def partitions_of_packed(data: bytes, starts: I64, lengths: I64, partitions: int) -> I64:
    """int64[n]: the same for keys in one buffer, key i in data[starts[i] : starts[i] + lengths[i]]."""
    hashes = _murmur2_packed(data, starts, lengths)
    return (hashes & np.uint32(_POSITIVE)).astype(np.int64) % partitions


def _murmur2_packed(data: bytes, starts: I64, lengths: I64) -> U32:
    """uint32[n]. Round k takes the k-th word of all keys that have one (uint32 arithmetic wraps)."""
    m, r = np.uint32(_M), np.uint32(_R)
    words = _words(data)
    h: U32 = np.uint32(_SEED) ^ lengths.astype(np.uint32)
    whole = lengths >> 2
    active = np.arange(len(lengths))
    for k in range(int(whole.max(initial=0))):
        if k:
            active = active[whole[active] > k]
        elif whole.min() == 0:
            active = np.flatnonzero(whole)
        word = words[starts[active] + 4 * k] * m
        word ^= word >> r
        word *= m
        h[active] = h[active] * m ^ word
    left = lengths & 3
    tailed = np.flatnonzero(left)
    at = starts[tailed] + (whole[tailed] << 2)
    keep = (np.uint32(1) << (left[tailed] << 3).astype(np.uint32)) - np.uint32(1)
    h[tailed] = (h[tailed] ^ words[at] & keep) * m
    h ^= h >> np.uint32(13)
    h *= m
    h ^= h >> np.uint32(15)
    return h


def _words(data: bytes) -> U32:
    """The little-endian word that begins at each byte: a view with stride 1 on the padded buffer."""
    padded = data + b"\0\0\0\0"
    return np.ndarray((len(data) + 1,), "<u4", padded, strides=(1,))
