"""How much memory this process has held at most."""

from __future__ import annotations

from pathlib import Path


def peak_mb() -> float:
    """The greatest resident size so far, in MB, by the kernel's own mark for the program.

    `getrusage` would begin with the size of the process that started this one. Linux only.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) / 1024
