"""What a command uses: CPU time and memory of it and of everything it starts, wherever reaped."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """Wall and CPU seconds, and the largest memory that all processes held at one time, MiB."""

    wall: float
    cpu: float
    peak: float

    @property
    def cores(self) -> float:
        """Cores that were busy on average."""
        return self.cpu / self.wall


def watch(command: Sequence[str], *, every: float = 0.5) -> Usage:
    """Run a command in a session of its own and look at that session's processes now and then."""
    start = time.perf_counter()
    process = subprocess.Popen(command, start_new_session=True)
    spent: dict[int, float] = {}
    peak = 0.0
    while process.poll() is None:
        held = 0.0
        for pid, cpu, memory in _session(process.pid):
            spent[pid] = cpu
            held += memory
        peak = max(peak, held)
        time.sleep(every)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Usage(time.perf_counter() - start, sum(spent.values()), peak)


def _session(session: int) -> list[tuple[int, float, float]]:
    """Return (pid, CPU seconds, MiB of its own and its share of what it shares)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                ticks = int(fields[11]) + int(fields[12])
                found.append((int(entry.parent.name), ticks / TICK, _proportional(entry.parent)))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _proportional(process: Path) -> float:
    lines = (process / "smaps_rollup").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
