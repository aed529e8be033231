"""All phases side by side: what one run measured of each, and what published runs did.

Times are divided by each other only where one machine measured both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ae_core.architecture import Architecture
from ae_core.records import (
    IMAGES_PER_EPOCH,
    BenchmarkRecord,
    ProfileRecord,
    Record,
    StepTime,
    TrainingRecord,
)
from ae_core.records.provenance import Provenance

STORY = {
    "cpu": "the formulas as nested loops",
    "cpu-parallel": "vector units filled, planes over all cores",
    "gpu-basic": "a thread per pixel, a launch per pair of planes",
    "gpu-basic-filter": "the loop over input planes moves into the kernel",
    "gpu-v1": "all filters in one launch, a tree for the weight gradient",
    "gpu-v2": "tiles of a matrix product in shared memory and registers",
    "gpu-v2, graph": "the whole step queued in one call",
}
"""The phases in the order of the book, and what each changed over the one before."""
PEERS = {
    "PyTorch": "a library, its operations called one by one",
    "PyTorch, graph": "its step queued in one call",
    "PyTorch, graph, TF32": "products rounded to TF32, on tensor cores",
    "PyTorch, graph, bf16": "16-bit products, on tensor cores",
}
OWN = "this run"
BASIS = "cpu", "cpu-parallel"
"""What speed-ups refer to: the loops as the formulas read, and as a CPU deserves."""
Records = Mapping[str, Record]
"""Of a run, by file name without `.json`."""
Machine = tuple[str, int, str | None]
"""Its processor, the cores of it that a run may use, and its card."""
Key = tuple[str] | tuple[str, str, int]
"""A phase; or a library, its device and threads."""


@dataclass(frozen=True)
class Row:
    """A phase, or a library, on one machine; None stands for what was not measured there."""

    name: str
    origin: str
    """`this run`, or the edition."""
    published: bool
    source: Record
    """What tells where this comes from."""
    step: StepTime | None
    training: TrainingRecord | None
    profile: ProfileRecord | None
    basis: Mapping[str, StepTime]
    """Steps of the same run on this machine, by phase: what this one may be divided by."""

    @property
    def peer(self) -> bool:
        """Whether this is a library, measured as a yardstick."""
        return self.name not in STORY

    @property
    def device(self) -> str:
        """The card, or the processor."""
        return next(m.device for m in (self.step, self.training, self.profile) if m)

    @property
    def unit(self) -> str:
        """What did the arithmetic: the GPU, or so many threads of the processor."""
        if self.on_gpu:
            return "GPU"
        threads = next(m.threads for m in (self.step, self.training) if m)
        return "1 thread" if threads == 1 else f"{threads} threads"

    @property
    def machine(self) -> Machine:
        """What tells machines apart."""
        return _machine(self.source.provenance)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU did the arithmetic."""
        return self.device == self.machine[2]

    @property
    def per_image(self) -> float | None:
        """Seconds of the median training step with one image."""
        return self.step.median if self.step else None

    @property
    def per_epoch(self) -> float | None:
        """Seconds per 50,000 images: of epochs that had them, else from the mean step."""
        whole = self._whole_epochs()
        if whole:
            return sum(whole) / len(whole)
        return self.step.seconds_per_epoch if self.step else None

    @property
    def extrapolated(self) -> bool:
        """Whether fewer than 50,000 images were measured."""
        return not self._whole_epochs() and self.step is not None and self.step.extrapolated

    @property
    def trained_seconds(self) -> float | None:
        """All the time that this phase's training took."""
        return sum(e.seconds for e in self.training.own_epochs) if self.training else None

    @property
    def trained_images(self) -> int | None:
        """How many images that was over all epochs."""
        return _images(self.training) if self.training else None

    @property
    def host_memory(self) -> int | None:
        """Bytes: the peak of the process that trained, Python and its libraries included."""
        return self.training.memory.host if self.training else None

    @property
    def device_memory(self) -> int | None:
        """Bytes: the peak of what training allocated on the GPU; the driver's context is apart."""
        return self.training.memory.device if self.training else None

    @property
    def flops_rate(self) -> float | None:
        """Floating-point operations per second: a whole step's arithmetic over its median."""
        arithmetic = sum(cost.flops for cost in Architecture().costs())
        return arithmetic / self.step.median if self.step else None

    @property
    def roofline_share(self) -> float | None:
        """Of the convolutions: the least time that the card's ceilings allow, over theirs."""
        return self.profile.roofline_share if self.profile else None

    def speedup(self, over: str) -> float | None:
        """How many times as fast as another phase, by medians; None if that is not to be had."""
        base = self.basis.get(over)
        return base.median / self.step.median if base and self.step else None

    @property
    def previous(self) -> str | None:
        """The phase before this one; None for the first and for libraries."""
        names = [*STORY]
        place = names.index(self.name) if self.name in STORY else 0
        return names[place - 1] if place else None

    def _whole_epochs(self) -> list[float]:
        own = self.training.own_epochs if self.training else ()
        return [e.seconds for e in own if e.images == IMAGES_PER_EPOCH]


def phases(own: Records, published: Mapping[str, Records]) -> list[Row]:
    """A run's rows in the order of the book; if it lacks phases, then those of an edition.

    The edition's own CPU rows come along, since its speed-ups refer to those. What an emulator
    did, what was trained in batches, and other networks than the book's are no rows.

    Args:
        own: what the run at hand measured.
        published: by the edition's title. The one with most of the missing phases is taken, of
            equals the first.
    """
    rows = rows_of(own, OWN, False)
    missing = {*STORY} - {row.name for row in rows if row.step}
    others = [rows_of(records, name, True) for name, records in published.items()]

    def has(rows: Sequence[Row]) -> int:
        return len(missing & {row.name for row in rows if row.step})

    best = max(others, key=has, default=[])
    return rows + best if has(best) else rows


def machines(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by where they were measured: the run, and which of its machines if there are several."""
    found: dict[tuple[str, Machine], list[Row]] = {}
    for row in rows:
        found.setdefault((row.origin, row.machine), []).append(row)
    origins = [origin for origin, _ in found]
    named = {}
    for (origin, (cpu, cores, gpu)), group in found.items():
        name = f"{origin}, published" if group[0].published else origin
        if origins.count(origin) > 1:
            name += f": {cpu}, {cores} cores" + (f", {gpu}" if gpu else "")
        named[name] = group
    return named


def one_machine(rows: Iterable[Row]) -> dict[str, Row]:
    """By name, the rows of the machine that has most of the phases; of libraries, those on a GPU.

    Sentences that compare are made from these.
    """
    groups = [
        {row.name: row for row in group if row.on_gpu or not row.peer}
        for group in machines(rows).values()
    ]
    return max(groups, key=len, default={})


def rows_of(records: Records, origin: str, published: bool) -> list[Row]:
    """Rows of one run, machine by machine, so that whatever a row is divided by is of its own."""
    machines: dict[Machine, list[Record]] = {}
    for record in records.values():
        machines.setdefault(_machine(record.provenance), []).append(record)
    return [row for found in machines.values() for row in _of_one_machine(found, origin, published)]


def _of_one_machine(records: Sequence[Record], origin: str, published: bool) -> list[Row]:
    steps, sources = _steps(records)
    trainings, profiles = _trainings(records), _profiles(records)
    basis = {key[0]: step for key, step in steps.items() if not step.peer}
    own: list[Key] = [(name,) for name in STORY if name in {**basis, **trainings}]
    peers = [key for key, step in steps.items() if step.peer]
    return [
        Row(
            name=key[0],
            origin=origin,
            published=published,
            source=sources.get(key) or trainings[key[0]],
            step=steps.get(key),
            training=trainings.get(key[0]),
            profile=profiles.get(key[0]),
            basis=basis,
        )
        for key in [*own, *peers]
    ]


def _steps(records: Sequence[Record]) -> tuple[dict[Key, StepTime], dict[Key, Record]]:
    """Steps with one image, and where they come from: the largest benchmark's, else a profile's."""
    benchmarks = [r for r in records if isinstance(r, BenchmarkRecord)]
    benchmarks.sort(key=lambda record: -len(record.steps))
    timed: list[tuple[StepTime, BenchmarkRecord | ProfileRecord]] = []
    timed += [(step, record) for record in benchmarks for step in record.steps]
    timed += [(record.step, record) for record in records if isinstance(record, ProfileRecord)]
    steps: dict[Key, StepTime] = {}
    sources: dict[Key, Record] = {}
    for step, record in timed:
        key = (step.name, step.device, step.threads) if step.peer else (step.name,)
        if key not in steps and step.batch_size == 1 and _usual(record.architecture, step.device):
            steps[key], sources[key] = step, record
    return steps, sources


def _trainings(records: Sequence[Record]) -> dict[str, TrainingRecord]:
    """By phase, the training that saw most images, of those with one a step from He's weights."""
    found: dict[str, TrainingRecord] = {}
    for record in records:
        if not isinstance(record, TrainingRecord):
            continue
        of = record.settings
        name = f"{of.phase}, graph" if of.graph else of.phase
        usual = _usual(of.architecture, record.device) and of.batch_size == of.initial_scale == 1
        if usual and (name not in found or _images(record) > _images(found[name])):
            found[name] = record
    return found


def _profiles(records: Sequence[Record]) -> dict[str, ProfileRecord]:
    return {
        record.phase: record
        for record in records
        if isinstance(record, ProfileRecord)
        and record.step.batch_size == 1
        and _usual(record.architecture, record.device)
    }


def _usual(architecture: Architecture, device: str) -> bool:
    """Whether this is the book's network, on something whose times mean anything."""
    return architecture == Architecture() and "emulator" not in device


def _machine(facts: Provenance) -> Machine:
    return facts.cpu, facts.cores, facts.gpu.model if facts.gpu else None


def _images(record: TrainingRecord) -> int:
    return sum(epoch.images for epoch in record.own_epochs)
