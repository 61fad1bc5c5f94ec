"""Numbers that every step shares: fingerprints, tables, logarithms on the grid, draws (docs/state.md)."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext

from xxhash import xxh3_64_intdigest

GRID = 4096
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
EPOCH_MS = 240 * DAY_MS
MASK32, MASK48, MASK64 = (1 << 32) - 1, (1 << 48) - 1, (1 << 64) - 1


def fp64(identifier: str) -> int:
    return xxh3_64_intdigest(identifier.encode())


def fp48(identifier: str) -> int:
    return fp64(identifier) & MASK48


def fp32(identifier: str) -> int:
    return fp64(identifier) & MASK32


def _rounded(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_EVEN))


def _powers(halvings: int, per: int, count: int, scale: int) -> list[int]:
    """round(2^(n * halvings / per) * scale) for n < count."""
    with localcontext() as context:
        context.prec = 60
        step, power, table = Decimal(2) ** (Decimal(halvings) / per), Decimal(scale), []
        for _ in range(count):
            table.append(_rounded(power))
            power *= step
    return table


def _logarithms() -> list[int]:
    with localcontext() as context:
        context.prec = 40
        ln2 = Decimal(2).ln()
        return [_rounded((1 + Decimal(k) / GRID).ln() / ln2 * GRID) for k in range(GRID)]


LONG_WEIGHT = _powers(1, 720, 5760, 1 << 12)
DECAY_POSITIVE = [*_powers(-1, 720, 12240, 1 << 16), 0]
DECAY_NEGATIVE = [*_powers(-1, 336, 5712, 1 << 16), 0]
EXP2 = _powers(1, GRID, GRID, 1 << 30)
LOG2 = _logarithms()


def clip(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def decay(weight: int, hours: int, table: list[int]) -> int:
    return (weight * table[clip(hours, 0, len(table) - 1)]) >> 16


def half_up(value: int, bits: int) -> int:
    """floor(value / 2^bits + 1/2); `bits` may be negative."""
    return (value + (1 << (bits - 1))) >> bits if bits > 0 else value << -bits


def exp2_fixed(x: int) -> int:
    """2^(x / 4096) in units of 1/4096."""
    x = clip(x, -163_840, 81_920)
    return half_up(EXP2[x % GRID], 18 - (x >> 12))


def log2_whole(x: int) -> int:
    """log2(x) of a whole number x >= 1 in units of 1/4096."""
    e = x.bit_length() - 1
    return e * GRID + LOG2[(x * GRID >> e) - GRID]


def splitmix64(x: int) -> int:
    z = (x + 0x9E3779B97F4A7C15) & MASK64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK64
    return z ^ z >> 31


def murmur2(key: bytes) -> int:
    """docs/wire.md, keys and partitions."""
    m, h = 0x5BD1E995, 0x9747B28C ^ len(key)
    whole = len(key) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(key[at : at + 4], "little") * m & MASK32
        k = (k ^ k >> 24) * m & MASK32
        h = h * m & MASK32 ^ k
    if whole < len(key):
        h = (h ^ int.from_bytes(key[whole:], "little")) * m & MASK32
    h = (h ^ h >> 13) * m & MASK32
    return h ^ h >> 15


def partition_of(key: str, partitions: int) -> int:
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def wrapped(value: int, bits: int) -> int:
    """What a signed cell of so many bits holds of a sum."""
    half = 1 << (bits - 1)
    return (value + half) % (1 << bits) - half
