"""The command line: data, train, features, classify, verify, profile, bench, book."""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from ae_core import cifar10, records, sources
from ae_core.errors import InputError
from ae_core.phases import PHASES, named
from ae_core.provenance import records_directory

if TYPE_CHECKING:
    from ae_core.runs import Run

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
data_app = typer.Typer(no_args_is_help=True, help="Find, fetch or synthesise CIFAR-10.")
book_app = typer.Typer(no_args_is_help=True, help="Execute the chapters and build the HTML.")
app.add_typer(data_app, name="data")
app.add_typer(book_app, name="book")

DataOption = Annotated[
    Path | None,
    typer.Option(help="Folder with data_batch_1.bin and so on. [default: $AE_CIFAR10_DIR, cache]"),
]
PhaseOption = Annotated[str, typer.Option(help=f"One of: {', '.join(PHASES)}.")]
PhasesOption = Annotated[str, typer.Option(help=f"One of: {', '.join(PHASES)}; or all.")]
OutOption = Annotated[
    Path | None,
    typer.Option(help="The record's file. [default: in $AE_RECORDS_DIR, else in runs/own]"),
]
DeviceOption = Annotated[
    str, typer.Option(help="What runs the kernels of CUDA phases: auto, cuda or emulated.")
]
ProfileOption = Annotated[str, typer.Option(help="A file of book/profiles, without .yml.")]
EditionOption = Annotated[str | None, typer.Option(help="A folder of editions/, new or there.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of initial parameters and image order.")]


@data_app.command("fetch")
def data_fetch() -> None:
    """Download the official binary archive (162 MiB) into the cache, and check it."""
    _describe(sources.fetch())


@data_app.command("info")
def data_info(data: DataOption = None) -> None:
    """Say which data is here, and what it really is. Downloads and writes nothing."""
    dataset = sources.locate(data)
    if dataset:
        _describe(dataset)
    else:
        print("data: none here; a run would download it, or use the synthetic stand-in")


@data_app.command("synthesize")
def data_synthesize(
    directory: Annotated[Path, typer.Argument(help="A new or empty folder (184 MB).")],
    seed: Annotated[int, typer.Option(min=0, help="Other seeds, other images.")] = 0,
) -> None:
    """Write the synthetic stand-in in CIFAR-10's binary layout."""
    _describe(sources.synthesize(directory, seed))


@app.command()
def train(
    phase: PhaseOption = "cpu-parallel",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = 1,
    images: Annotated[int, typer.Option(min=1, help="Training images, from the first.")] = 1000,
    test_images: Annotated[int, typer.Option(min=0, help="Test images, from the first.")] = 10_000,
    learning_rate: Annotated[float, typer.Option(help="Of plain SGD.")] = 0.002,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 1,
    initial_scale: Annotated[float, typer.Option(help="Of the initial weights, times He's.")] = 1,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    graph: Annotated[
        bool, typer.Option("--graph", help="Queue each step as one CUDA graph (gpu-v1, gpu-v2).")
    ] = False,
    data: DataOption = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Save weights and state here after each epoch.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from --checkpoint if it exists.")
    ] = False,
    out: OutOption = None,
) -> None:
    """Train the autoencoder, look at test images, and write a record."""
    from ae_core.training import train as run  # noqa: PLC0415

    named(phase)
    if resume and not checkpoint:
        raise InputError("--resume: expected --checkpoint with the file to go on from")
    try:
        settings = records.TrainingSettings(
            phase=phase,
            epochs=epochs,
            images=images,
            test_images=test_images,
            learning_rate=learning_rate,
            batch_size=batch_size,
            initial_scale=initial_scale,
            seed=seed,
            graph=graph,
        )
    except ValidationError as error:
        raise _refused(error) from None
    target = _writable(out or records_directory() / f"training_{phase}.json")
    dataset = sources.find(data)
    _describe(dataset)
    _, record = run(
        settings,
        dataset,
        device=device,
        checkpoint=checkpoint,
        existing="resume" if resume else "refuse",
        on_epoch=_tell_epoch,
    )
    if record.test:
        print(f"test ({record.test.images:,} images): MSE {record.test.mse:.5f}, ", end="")
        print(f"PSNR {record.test.psnr:.2f} dB")
    print(_memory(record))
    _save(record, target)


@app.command()
def features(
    checkpoint: Annotated[Path, typer.Argument(help="As `train --checkpoint` wrote it.")],
    directory: Annotated[Path, typer.Argument(help="Where train and test go, a file each.")],
    phase: Annotated[
        str | None, typer.Option(help=f"One of: {', '.join(PHASES)}. [default: the checkpoint's]")
    ] = None,
    file_format: Annotated[
        str,
        typer.Option("--format", help="parquet, or csv: twice the room and several times slower."),
    ] = "parquet",
    images: Annotated[int, typer.Option(min=10, help="For training, classes alike.")] = 50_000,
    test_images: Annotated[int, typer.Option(min=10, help="For testing, likewise.")] = 10_000,
    batch_size: Annotated[int, typer.Option(min=1, help="Images encoded at once.")] = 50,
    device: DeviceOption = "auto",
    data: DataOption = None,
) -> None:
    """Encode images into files of features: 8,192 numbers an image, 1.6 GB in memory for all."""
    from ae_core import features as files  # noqa: PLC0415
    from ae_core import training  # noqa: PLC0415
    from ae_core.feature_files import SplitName  # noqa: PLC0415

    if phase:
        named(phase)
    if file_format not in ("parquet", "csv"):
        raise InputError(f"--format: expected parquet or csv, found {file_format}")
    dataset = sources.find(data)
    _describe(dataset)
    autoencoder, _ = training.restore(checkpoint, phase=phase, device=device, batch_size=batch_size)
    splits: tuple[tuple[SplitName, int], ...] = (("train", images), ("test", test_images))
    for split, count in splits:
        rows = files.stratified(getattr(dataset, split).labels, count)
        path = directory / f"{split}.{file_format}"
        source = files.extract(autoencoder, dataset, split, path, rows)
        print(f"{path}: {source.images:,} images, {path.stat().st_size / 1e6:,.0f} MB")


@app.command()
def classify(
    directory: Annotated[
        Path, typer.Argument(help="With train and test, as `features` wrote them.")
    ],
    classifier: Annotated[
        str, typer.Option(help="svc, library-svc (slow: for comparison), or least-squares.")
    ] = "svc",
    cost: Annotated[float, typer.Option("--C", help="What a misclassified image costs.")] = 10,
    gamma: Annotated[float, typer.Option(help="Of the kernel; 1 is scikit-learn's `scale`.")] = 1,
    search: Annotated[
        bool, typer.Option("--search", help="Choose C and gamma on a part of the training images.")
    ] = False,
    engine: Annotated[str, typer.Option(help="auto, rapids or scikit-learn.")] = "auto",
    out: OutOption = None,
) -> None:
    """Classify images from their features: a scaler, an RBF classifier, and its test accuracy."""
    from ae_core import classification, tables  # noqa: PLC0415

    try:
        settings = records.ClassifierSettings.model_validate(
            {"classifier": classifier, "C": cost, "gamma": gamma}
        )
    except ValidationError as error:
        raise _refused(error) from None
    target = _writable(out or records_directory() / f"classification_{classifier}.json")
    record = classification.classify_files(directory, settings, engine, with_search=search)
    print(tables.classification(record).to_string(index=False))
    _save(record, target)


@app.command()
def verify(
    phase: PhasesOption = "all",
    images: Annotated[int, typer.Option(min=1, help="Images in the compared pass.")] = 100,
    steps: Annotated[int, typer.Option(min=0, help="Training steps to compare.")] = 20,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    data: DataOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the records. [default: as for train]"),
    ] = None,
) -> None:
    """Hold phases against the plain CPU loops in float64, and those against difference quotients.

    Each phase runs twice and must come to the same bits. On the emulator a small network does.
    Prints the differences of every tensor; exits with 1 if one is beyond its tolerance.
    """
    from ae_core import tables, verification  # noqa: PLC0415

    names, passed = _selected(phase), True
    folder = _writable((out or records_directory()) / "verification.json").parent
    dataset = sources.find(data)
    _describe(dataset)

    def tell(record: records.VerificationRecord, file: str) -> bool:
        what = f"{record.phase} on {record.device}"
        print(f"{what}, {record.architecture.parameter_count:,} parameters, {record.images} images")
        print(f"against {record.reference}:")
        print(tables.differences(record.differences).to_string(index=False))
        if record.repeatable is not None:
            print(f"second run: {'the same bits' if record.repeatable else 'OTHER BITS'}")
        _save(record, folder / file)
        return record.passed

    if "cpu" in names:
        gradients = verification.verify_gradients(dataset, per_tensor=10, seed=seed)
        passed &= tell(gradients, "gradients_cpu.json")
    for record in verification.compare(
        names, dataset, images=images, steps=steps, seed=seed, device=device
    ):
        passed &= tell(record, f"verification_{record.phase}.json")
    print("passed" if passed else "FAILED: see above")
    raise typer.Exit(0 if passed else 1)


@app.command()
def profile(
    phase: PhaseOption = "gpu-v2",
    steps: Annotated[int, typer.Option(min=3, help="Steps to time each operation in.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 1,
    device: DeviceOption = "auto",
    data: DataOption = None,
    out: OutOption = None,
) -> None:
    """Time each operation of a training step; under Nsight the ranges have the same names.

    On the emulator a small network is profiled, and only the counts mean something.
    """
    from ae_core import profiling, tables  # noqa: PLC0415

    named(phase)
    target = _writable(out or records_directory() / f"profile_{phase}.json")
    record = profiling.profile_operations(
        phase,
        sources.find(data),
        images=max(16, batch_size),
        steps=steps,
        device=device,
        batch_size=batch_size,
    )
    print(tables.profile(record).to_string(index=False))
    _save(record, target)


@app.command()
def bench(
    phase: PhasesOption = "all",
    steps: Annotated[
        int | None, typer.Option(min=3, help="Timed steps of each. [default: what --budget allows]")
    ] = None,
    budget: Annotated[float, typer.Option(min=0, help="Seconds for each; at least 30 steps.")] = 30,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 1,
    peer: Annotated[
        str | None, typer.Option(help="Also time this library: torch (extra [peer]).")
    ] = None,
    device: DeviceOption = "auto",
    graph: Annotated[
        bool, typer.Option("--graph", help="Also time steps as CUDA graphs (gpu-v1, gpu-v2).")
    ] = False,
    data: DataOption = None,
    out: OutOption = None,
) -> None:
    """Time training steps: median, spread and n, with PyTorch's beside them if asked.

    `cpu` selects both CPU phases; `all` selects CUDA phases only where there is a GPU.
    """
    from ae_core import benchmark, tables  # noqa: PLC0415

    if peer not in (None, "torch"):
        raise typer.BadParameter(f"expected torch, found {peer}", param_hint="--peer")
    names = ["cpu", "cpu-parallel"] if phase == "cpu" else _selected(phase)
    if phase == "all":
        names = benchmark.timeable()
        if names != list(PHASES):
            print("no NVIDIA GPU: timing the CPU's phases (an emulator's time says nothing)")
    target = _writable(out or records_directory() / f"benchmark_{phase}.json")
    record = benchmark.benchmark(
        names,
        sources.find(data),
        batch_size=batch_size,
        steps=steps,
        budget=budget,
        device=device,
        graph=graph,
        with_torch=bool(peer),
    )
    print(tables.benchmark(record).to_string(index=False))
    _save(record, target)


@book_app.command("execute")
def book_execute(
    chapters: Annotated[list[str] | None, typer.Argument(help="Only these. [default: all]")] = None,
    profile: ProfileOption = "quick",
    edition: EditionOption = None,
    force: Annotated[bool, typer.Option("--force", help="Also those up to date.")] = False,
) -> None:
    """Execute the chapters that are missing or out of date, through papermill.

    With --edition they are measured to be published, under the full profile, on a GPU.
    """
    from ae_core import book  # noqa: PLC0415

    book.execute(_run(profile, edition), chapters or [], force=force)


@book_app.command("html")
def book_html(
    profile: ProfileOption = "quick",
    edition: EditionOption = None,
) -> None:
    """Build the HTML from executed chapters, warnings as errors, and check its links.

    A run of this machine comes first and has every edition beside it, in tabs; with --edition the
    HTML is made of what is published, and nothing needs to have been executed here.
    """
    from ae_core import runs, site  # noqa: PLC0415

    first = _run(profile, edition)
    print(f"open {site.build([first, *(run for run in runs.editions() if run != first)])}")


@book_app.command("make")
def book_make(profile: ProfileOption = "quick") -> None:
    """Execute what is out of date, then build the HTML."""
    book_execute(None, profile, None, force=False)
    book_html(profile, None)


def _run(profile: str, edition: str | None) -> Run:
    from ae_core import runs  # noqa: PLC0415

    return runs.edition(edition) if edition else runs.local(profile)


HtmlOption = Annotated[
    Path | None, typer.Option(help="Folder of built HTML. [default: _build/html]")
]


@book_app.command("pdf")
def book_pdf(html: HtmlOption = None) -> None:
    """Print the built HTML as one PDF, through Chromium; code that pages fold is left out."""
    from ae_core import printing  # noqa: PLC0415

    print(f"open {printing.pdf(printing.built(html), printing.target('.pdf'))}")


@book_app.command("zip")
def book_zip(html: HtmlOption = None) -> None:
    """Pack the built HTML into an archive that opens from disk."""
    from ae_core import printing  # noqa: PLC0415

    print(f"made {printing.zipped(printing.built(html), printing.target('.zip'))}")


def _refused(error: ValidationError) -> InputError:
    first = error.errors()[0]
    return InputError(f"{first['loc'][0]}: {first['msg']}, found {first['input']}")


def _selected(phase: str) -> list[str]:
    if phase == "all":
        return list(PHASES)
    named(phase)
    return [phase]


def _tell_epoch(epoch: records.EpochResult) -> None:
    print(f"epoch {epoch.epoch:3}: loss {epoch.loss:.5f}, {epoch.seconds:.1f} s", flush=True)


def _memory(record: records.RunRecord) -> str:
    memory = record.memory
    text = f"memory: host peak {memory.host / 2**20:,.0f} MiB"
    if memory.device is not None and memory.device_in_use is not None:
        text += f", device peak {memory.device / 2**20:,.1f} MiB"
        text += f", {memory.device_in_use / 2**20:,.1f} MiB in use at the end"
    return text


def _describe(dataset: cifar10.Dataset) -> None:
    print(f"data: {dataset.identity.label} ({dataset.directory})")


def _writable(path: Path) -> Path:
    """`path`, whose folder exists and can be written to: found out before the work, not after."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        return path


def _save(record: records.Record, out: Path) -> None:
    print(f"record: {records.save(record, out)}")


def main() -> None:
    """Run the command line; what a person can mend is told in a line, not a traceback."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        app()
    except (InputError, ArithmeticError, OSError, ImportError, MemoryError) as error:
        print(f"error: {error or type(error).__name__}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
