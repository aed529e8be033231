"""All phases side by side: what one run measured of each, and what published runs did.

A row is of one phase or library, as it ran: at one batch size, as a graph or not, on so many GPUs.
Times are compared per image, and divided by each other only where one machine measured both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar, get_args

from ae_core.architecture import Architecture
from ae_core.machine import DeviceKind
from ae_core.measuring.tables import place
from ae_core.parameters import Precision
from ae_core.phases import PHASES, title
from ae_core.records import (
    IMAGES_PER_EPOCH,
    BenchmarkRecord,
    ProfileRecord,
    Record,
    StepTime,
    TrainingRecord,
)
from ae_core.records.provenance import Provenance

OWN = "this run"
BASIS = "cpu", "cpu-parallel"
"""What speed-ups refer to: the loops as the formulas read, and as a CPU deserves."""
Records = Mapping[str, Record]
"""Of a run, by file name without `.json`."""
Machine = tuple[str, int, str | None]
"""Its processor, the cores of it that a run may use, and its card."""


class Measured(Protocol):
    """What says of itself what was measured: a row, or a step's time."""

    @property
    def name(self) -> str:
        """The phase, a key of `ae_core.phases.PHASES`; or the library."""

    @property
    def graph(self) -> bool:
        """Whether a step is queued as one CUDA graph."""

    @property
    def batch_size(self) -> int:
        """Images per step."""

    @property
    def precision(self) -> Precision:
        """Of the products of convolutions."""


AnyMeasured = TypeVar("AnyMeasured", bound=Measured)


def find(
    among: Iterable[AnyMeasured],
    name: str,
    *,
    graph: bool = False,
    batch_size: int = 1,
    precision: Precision | None = None,
) -> AnyMeasured | None:
    """The first that is of this phase or library, run so; None if there is none.

    Args:
        among: rows or times of steps.
        name: a key of `ae_core.phases.PHASES`, or a library's name.
        graph: whether its step is queued as one CUDA graph.
        batch_size: images per step.
        precision: of its products; by default the phase's own, and float32 of a library.
    """
    own: Precision = PHASES[name].precision if name in PHASES else "float32"
    wanted = (name, graph, batch_size, precision or own)
    return next((m for m in among if (m.name, m.graph, m.batch_size, m.precision) == wanted), None)


@dataclass(frozen=True)
class Variant:
    """A phase or library, and how it ran: what makes two measurements ones of the same thing."""

    name: str
    """The phase, a key of `ae_core.phases.PHASES`; or the library."""
    peer: bool
    """Whether this is a library, measured as a yardstick."""
    graph: bool
    """Whether a step is queued as one CUDA graph."""
    batch_size: int
    precision: Precision
    gpus: int
    """0 where none did the arithmetic."""

    @classmethod
    def of(cls, measured: StepTime | Row) -> Variant:
        """What was measured, wherever that was."""
        return Variant(**{field.name: getattr(measured, field.name) for field in fields(Variant)})

    @property
    def title(self) -> str:
        """As the book calls it."""
        return title(
            self.name,
            graph=self.graph,
            precision=self.precision,
            gpus=self.gpus,
            batch_size=self.batch_size,
        )

    @property
    def change(self) -> str:
        """What it changed over the phase before, or what it is of a library, in a line."""
        if not self.peer:
            return "the whole step queued in one call" if self.graph else PHASES[self.name].change
        how = "its step queued in one call" if self.graph else "its operations called one by one"
        exact = self.precision == "float32"
        return f"a library, {how}" + ("" if exact else f", {self.precision} on tensor cores")

    @property
    def place(self) -> tuple[Any, ...]:
        """Where it stands in the story; libraries stand behind the phases."""
        chapter = 0 if self.peer else [*PHASES].index(self.name)
        precision = get_args(Precision).index(self.precision)
        order = (self.graph, self.batch_size, precision, self.gpus)
        return (self.peer, chapter, self.name, min(self.gpus, 1), *order)


@dataclass(frozen=True)
class Row(Variant):
    """A phase, or a library, on one machine; None stands for what was not measured there."""

    threads: int
    origin: str
    """`this run`, or the edition."""
    published: bool
    source: Record
    """What tells where this comes from."""
    step: StepTime | None
    training: TrainingRecord | None
    profile: ProfileRecord | None
    basis: Sequence[StepTime]
    """Phases' steps of the same run on this machine: what this one may be divided by."""

    @property
    def device(self) -> str:
        """The card, or the processor."""
        return next(m.device for m in (self.step, self.training, self.profile) if m)

    @property
    def unit(self) -> str:
        """What did the arithmetic: the GPU, or so many threads of the processor."""
        return place(self.gpus, self.threads)

    @property
    def machine(self) -> Machine:
        """What tells machines apart."""
        return _machine(self.source.provenance)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU did the arithmetic."""
        return self.gpus > 0

    @property
    def per_image(self) -> float | None:
        """Seconds of the median training step for each of its images."""
        return self.step.per_image if self.step else None

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
        arithmetic = sum(cost.flops for cost in Architecture().costs(self.batch_size))
        return arithmetic / self.step.median if self.step else None

    @property
    def roofline_share(self) -> float | None:
        """Of the convolutions: the least time that the card's ceilings allow, over theirs."""
        return self.profile.roofline_share if self.profile else None

    def speedup(self, over: str, **how: Any) -> float | None:
        """How many times as fast as a phase, per image, by medians; None if that is not to be had.

        How that phase ran is told as to `find`: by default at batch size 1, launch by launch.
        """
        return self._gain(find(self.basis, over, **how))

    @property
    def gain(self) -> float | None:
        """How many times as fast as the step before it in the story, at the same batch size.

        That is for a graph its own phase launch by launch, for several GPUs one of them, else the
        phase before. None for the first phase, for libraries, and where that was not measured.
        """
        if self.peer:
            return None
        before, gpus = self.name, {self.gpus}
        if not self.graph:
            gpus = {0, 1}
            if self.gpus <= 1:
                number = [*PHASES].index(self.name)
                before = [*PHASES][number - 1] if number else ""
        among = (step for step in self.basis if step.gpus in gpus)
        return self._gain(find(among, before, batch_size=self.batch_size))

    def _gain(self, base: StepTime | None) -> float | None:
        return base.per_image / self.step.per_image if base and self.step else None

    def _whole_epochs(self) -> list[float]:
        own = self.training.own_epochs if self.training else ()
        return [e.seconds for e in own if e.images == IMAGES_PER_EPOCH]


class Rows(tuple[Row, ...]):
    """Rows in the order of the story."""

    def find(self, name: str, **how: Any) -> Row | None:
        """The first row of this phase or library; None if there is none.

        How it ran is told as to `find`: by default at batch size 1, launch by launch.
        """
        return find(self, name, **how)

    @property
    def timed(self) -> set[str]:
        """The names of phases and libraries whose steps were timed."""
        return {row.name for row in self if row.step}


def phases(own: Records, published: Mapping[str, Records]) -> Rows:
    """A run's rows in the order of the book; if it lacks phases, then those of an edition.

    The edition's own CPU rows come along, since its speed-ups refer to those. What an emulator
    did, what was trained from other weights, and other networks than the book's are no rows.

    Args:
        own: what the run at hand measured.
        published: by the edition's title. The one with most of the missing phases is taken, of
            equals the first.
    """
    rows = rows_of(own, OWN, False)
    missing = {*PHASES} - rows.timed
    others = [rows_of(records, name, True) for name, records in published.items()]
    best = max(others, key=lambda rows: len(missing & rows.timed), default=Rows())
    return Rows((*rows, *best)) if missing & best.timed else rows


def machines(rows: Iterable[Row]) -> dict[str, Rows]:
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
        named[name] = Rows(group)
    return named


def one_machine(rows: Iterable[Row]) -> Rows:
    """The rows of the machine that has most of the phases; of libraries, those on a GPU.

    Sentences that compare are made from these.
    """
    groups = [
        Rows(row for row in group if row.on_gpu or not row.peer)
        for group in machines(rows).values()
    ]
    return max(groups, key=lambda group: len({row.name for row in group}), default=Rows())


def rows_of(records: Records, origin: str, published: bool) -> Rows:
    """Rows of one run, machine by machine, so that whatever a row is divided by is of its own."""
    machines: dict[Machine, list[Record]] = {}
    for record in records.values():
        machines.setdefault(_machine(record.provenance), []).append(record)
    groups = (_of_one_machine(found, origin, published) for found in machines.values())
    return Rows(row for group in groups for row in group)


def _of_one_machine(records: Sequence[Record], origin: str, published: bool) -> list[Row]:
    steps, trainings, profiles = _steps(records), _trainings(records), _profiles(records)
    basis = [step for step, _ in steps.values() if not step.peer]
    rows = []
    for key in sorted({**steps, **trainings}, key=lambda key: (key[0].place, key[1])):
        (variant, threads), (step, source) = key, steps.get(key, (None, None))
        rows.append(
            Row(
                **vars(variant),
                threads=threads,
                origin=origin,
                published=published,
                source=source or trainings[key],
                step=step,
                training=trainings.get(key),
                profile=profiles.get(key),
                basis=basis,
            )
        )
    return rows


Key = tuple[Variant, int]
"""What was measured, and on how many threads."""


def _steps(records: Sequence[Record]) -> dict[Key, tuple[StepTime, Record]]:
    """Steps, and where they come from: the largest benchmark's, else a profile's."""
    benchmarks = [r for r in records if isinstance(r, BenchmarkRecord)]
    benchmarks.sort(key=lambda record: -len(record.steps))
    timed: list[tuple[StepTime, BenchmarkRecord | ProfileRecord]] = []
    timed += [(step, record) for record in benchmarks for step in record.steps]
    timed += [(record.step, record) for record in records if isinstance(record, ProfileRecord)]
    steps: dict[Key, tuple[StepTime, Record]] = {}
    for step, record in timed:
        known = step.peer or step.name in PHASES
        if known and _usual(record.architecture, step.device_kind):
            steps.setdefault((Variant.of(step), step.threads), (step, record))
    return steps


def _trainings(records: Sequence[Record]) -> dict[Key, TrainingRecord]:
    """Of each phase, the training that saw most images, of those from He's weights."""
    found: dict[Key, TrainingRecord] = {}
    for record in records:
        if not isinstance(record, TrainingRecord) or record.settings.phase not in PHASES:
            continue
        of = record.settings
        variant = Variant(
            name=of.phase,
            peer=False,
            graph=of.graph,
            batch_size=of.batch_size,
            precision=record.precision,
            gpus=record.gpus,
        )
        key = variant, record.threads
        usual = _usual(of.architecture, record.device_kind) and of.initial_scale == 1
        if usual and (key not in found or _images(record) > _images(found[key])):
            found[key] = record
    return found


def _profiles(records: Sequence[Record]) -> dict[Key, ProfileRecord]:
    return {
        (Variant.of(record.step), record.step.threads): record
        for record in records
        if isinstance(record, ProfileRecord) and _usual(record.architecture, record.device_kind)
    }


def _usual(architecture: Architecture, kind: DeviceKind) -> bool:
    """Whether this is the book's network, on something whose times mean anything."""
    return architecture == Architecture() and kind != "emulator"


def _machine(facts: Provenance) -> Machine:
    return facts.cpu, facts.cores, facts.gpu.model if facts.gpu else None


def _images(record: TrainingRecord) -> int:
    return sum(epoch.images for epoch in record.own_epochs)
