"""What else kept the machine's cores busy while something was timed."""

from __future__ import annotations

import os
import time

import psutil
from pydantic import PositiveInt

from ae_core.records.base import Model

BUSY = 0.25
"""Cores' worth of other work from which times are called those of a busy machine."""


class Load(Model):
    """How much time others had of the cores that this process may use."""

    cores: PositiveInt
    average: float
    """The system's load average of the minute before."""
    others: float
    """Cores' worth of time that other processes took."""
    stolen: float
    """Cores' worth of time that a hypervisor gave to other virtual machines."""

    @property
    def busy(self) -> bool:
        """Whether that is enough to be seen in times."""
        return self.others + self.stolen >= BUSY

    def __str__(self) -> str:
        """What a reader of times must know of it."""
        return (
            f"While this was timed, other processes took {self.others:.1f} of {self.cores} cores"
            + (f" and other virtual machines {self.stolen:.1f}" if self.stolen >= 0.05 else "")
            + f" (load average before: {self.average:.1f}). On an idle machine times may be "
            "shorter, most of all those of loops on all cores."
        )


class Watch:
    """Looks on from when it is made until it is asked."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        affinity = getattr(self._process, "cpu_affinity", None)  # macOS has none
        self._cores = affinity() if affinity else range(psutil.cpu_count() or 1)
        self._average = os.getloadavg()[0]
        self._started = self._seconds()

    def load(self) -> Load:
        """Since the watch was made, without the work of this process and its ended children."""
        elapsed, all_busy, own, stolen = (
            now - then for now, then in zip(self._seconds(), self._started, strict=True)
        )
        return Load(
            cores=len(self._cores),
            average=self._average,
            others=max(all_busy - own, 0.0) / max(elapsed, 1e-9),
            stolen=stolen / max(elapsed, 1e-9),
        )

    def _seconds(self) -> tuple[float, float, float, float]:
        """Time on the clock, and of the cores: busy, busy with this process, stolen."""
        per_core = psutil.cpu_times(percpu=True)
        times = [per_core[core]._asdict() for core in self._cores if core < len(per_core)]
        busy = sum(
            t.get(k, 0.0) for t in times for k in ("user", "nice", "system", "irq", "softirq")
        )
        own = self._process.cpu_times()
        spent = own.user + own.system + own.children_user + own.children_system
        return time.monotonic(), busy, spent, sum(t.get("steal", 0.0) for t in times)
