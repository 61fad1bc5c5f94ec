"""What to do about what a disk says (2, 4)."""

from __future__ import annotations

_ADVICE = {
    "lock": "another worker holds it: give each worker a FEEDRANK_DATA_DIR of its own",
    "no space left": "the disk is full: free space or move FEEDRANK_DATA_DIR, then restart; nothing is lost",
    "read-only": "the file system is read-only: mount it writable or move FEEDRANK_DATA_DIR",
    "permission denied": "this user may not write there: correct the owner or move FEEDRANK_DATA_DIR",
    "operation not permitted": "this user may not write there: correct the owner or move FEEDRANK_DATA_DIR",
    "not a directory": "a file stands where a directory belongs: move FEEDRANK_DATA_DIR",
    "file exists": "a file stands where a directory belongs: move FEEDRANK_DATA_DIR",
}


def disk_advice(said: str) -> str:
    """For the end of a message about RocksDB's directory.

    >>> disk_advice("IO error: Read-only file system")
    'the file system is read-only: mount it writable or move FEEDRANK_DATA_DIR'
    """
    lower = said.lower()
    return next(
        (advice for sign, advice in _ADVICE.items() if sign in lower), "check the directory and its disk"
    )
