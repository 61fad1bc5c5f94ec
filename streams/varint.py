"""Whole numbers as Avro and Kafka's record batches write them: zigzag, seven bits a byte, lowest first."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """Of a number of at most 64 bits.

    >>> varint(-1), varint(64)
    (b'\\x01', b'\\x80\\x01')
    """
    left, out = (number << 1) ^ (number >> 63), bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)
