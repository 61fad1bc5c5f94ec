"""What Linux says of a running process: its CPU seconds and its memory."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
KB_PER_MB = 1024


def cpu_s(pid: int) -> float:
    """User and system seconds of a running process, all threads, children not."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def peak_mb(pid: int | str = "self") -> float:
    """Largest resident set of a process so far; 0 when it has ended.

    Not `ru_maxrss`: that begins with what the parent had when it started the process.
    """
    return _status_mb(pid, "VmHWM:")


def resident_mb(pid: int | str = "self") -> float:
    """Resident set of a process now; 0 when it has ended."""
    return _status_mb(pid, "VmRSS:")


def _status_mb(pid: int | str, name: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / KB_PER_MB for line in lines if line.startswith(name)), 0.0)
