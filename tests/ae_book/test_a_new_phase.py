"""A module with a class and an entry in the table: all else knows the phase from then on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from ae_book.analysis import figures as analysis_figures
from ae_book.analysis import headline, side_by_side, step_budget
from ae_book.analysis import tables as analysis_tables
from ae_book.making import chapters, runs
from ae_book.making.runs import Run
from ae_book.showing import figures, tables
from ae_core import phases, records
from ae_core.commands.options import selected
from ae_core.measuring.benchmark import benchmark, timeable
from ae_core.measuring.profiling import profile_operations
from ae_core.measuring.verification import TOLERANCES, compare
from ae_core.phases.cpu_parallel import CpuParallel
from ae_core.phases.feed import Feed
from ae_core.phases.layered import Layered
from ae_core.phases.plan import Cost, Step
from ae_core.records import Ceilings, TrainingSettings
from ae_core.training.loop import train
from tests import handmade
from tests.ae_core.test_cli import run as command
from tests.conftest import SMALL

NAME, BATCH = "fused", 3
BEFORE = [*phases.PHASES][-1]
TITLE = "A fused phase, batch size 3"
ENTRY = phases.Phase(
    title="A fused phase",
    change="a stage of the network in one call",
    module=__name__,
    implementation="Fused",
    colour="#123456",
    marker="$n$",
    layered=False,
    capturable=True,
    precision="bf16",
    batch_size=BATCH,
)


class Fused:
    """A plan of its own: each convolution takes what follows it along, the last one the loss."""

    precision, capturable = "bf16", True
    not_materialised = frozenset({"conv1", "conv5"})

    def __init__(self, name, architecture, batch_size, device):
        self.layered = Layered(name, CpuParallel(), architecture, batch_size)

    def __getattr__(self, attribute):
        found = getattr(self.layered, attribute)
        return fuse(found) if attribute in ("encode", "evaluate", "differentiate") else found

    def activation(self, layer):
        if layer in self.not_materialised:
            raise KeyError(layer)
        return self.layered.activation(layer)


def fuse(steps: Iterable[Step]) -> list[Step]:
    """One entry for each convolution with what follows it, or for its gradients likewise."""
    groups: list[list[Step]] = []
    for step in steps:
        if step.name.endswith(("conv2d_forward", "conv2d_weight_gradient")):
            groups.append([])
        groups[-1].append(step)
    return [
        Step(
            name=f"{group[0].name.replace('.conv2d_', ' and more, ')}",
            kind="convolution",
            cost=Cost(sum(s.cost.flops for s in group), sum(s.cost.bytes for s in group)),
            run=lambda group=group: [step.run() for step in group],
            operations=tuple(name for step in group for name in step.operations),
        )
        for group in groups
    ]


@pytest.fixture(scope="module", autouse=True)
def entered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(phases.PHASES, NAME, ENTRY)
        yield


@pytest.fixture(scope="module")
def measured(dataset, entered):
    """What there is to measure of a phase, measured; and the phase before it, made up."""
    bench = benchmark(["cpu-parallel", NAME], dataset, steps=3)
    settings = TrainingSettings(phase=NAME, images=6, batch_size=BATCH, test_images=3)
    before = handmade.step(BEFORE, 0.5, batch_size=BATCH)
    profile = profile_operations(NAME, dataset, steps=3)
    return {
        "cpu_benchmark": bench,
        "gpu_benchmark": handmade.benchmark(before, facts=bench.provenance),
        "cpu_training": train(settings, dataset)[1],
        "profile": profile.model_copy(update={"ceilings": Ceilings(flops=1e15, bandwidth=1e13)}),
    }


@pytest.fixture(scope="module")
def rows(measured):
    return side_by_side.phases(measured, {})


@pytest.mark.parametrize("name", [*phases.PHASES, NAME])
def test_each_operation_of_the_network_is_done_by_one_entry_of_a_training_step(name, random):
    if not phases.named(name).emulated:
        pytest.skip("the emulator can't load its kernels")
    plan = phases.create(name, SMALL, BATCH, "emulated")
    plan.take_from(Feed(plan.device, random.random((BATCH, 3, 8, 8), dtype=np.float32)))
    steps = [*plan.fetch, *plan.differentiate, *plan.update, *plan.advance]
    costs = {f"{cost.layer}.{cost.operation}": cost.flops for cost in SMALL.costs(BATCH)}
    assert sorted(o for step in steps for o in step.operations) == sorted(costs)
    for step in steps:
        if step.operations:
            assert step.cost.flops == sum(costs[o] for o in step.operations), step.name
        does = {operation.split(".")[1].split("_")[0] for operation in step.operations}
        if "conv2d" in does:
            assert step.kind == "convolution"
        elif does & {"mse", "sgd"}:
            assert step.kind == ("loss" if "mse" in does else "update")
        else:
            assert step.kind == ("elementwise" if does else "input")
    assert plan.precision == phases.named(name).precision
    assert plan.capturable == phases.named(name).capturable


def test_it_is_trained(measured):
    record = measured["cpu_training"]
    assert (record.settings.phase, record.precision, record.gpus) == (NAME, "bf16", 0)
    assert record.epochs[0].images == 6 and record.test.images == 3


def test_it_is_verified_to_its_precision_but_for_what_it_does_not_materialise(dataset):
    (record,) = compare([NAME], dataset, images=4, steps=2, architecture=SMALL)
    assert record.passed and (record.precision, record.batch_size) == ("bf16", BATCH)
    assert record.not_materialised == ("reconstruction",)
    names = [difference.quantity for difference in record.differences]
    assert "latent" in names and "reconstruction" not in names
    assert {d.tolerance for d in record.differences} <= {*vars(TOLERANCES["bf16"]).values()}


def test_it_is_profiled_entry_by_entry(measured):
    record = measured["profile"]
    assert (record.step.name, record.step.batch_size) == (NAME, BATCH)
    assert len(record.operations) == 1 + 10 + 1 + 1
    table = tables.profile(record)
    assert table["operation"].iloc[1] == "conv1 and more, forward"
    assert not table.isin(["nan", "inf", "nan%", "inf%"]).any(axis=None)
    shares = figures.grouped(record)
    assert {"convolution, forward", "convolution, weight gradient", figures.SEVERAL} <= {*shares}


def test_it_is_timed_at_its_own_batch_size(measured):
    step = measured["cpu_benchmark"].step(NAME)
    assert (step.batch_size, step.precision, step.device_kind) == (BATCH, "bf16", "cpu")
    assert NAME in timeable()


def test_the_command_line_has_it(dataset, tmp_path):
    out, data = tmp_path / "r.json", str(dataset.directory)
    done = command("profile", "--phase", NAME, "--steps", "3", "--data", data, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "conv5 and more, forward" in done.stdout
    assert records.load(out).step.batch_size == BATCH
    assert NAME in command("profile", "--phase", "none").stderr
    assert NAME in selected("all", "emulated")


def test_help_names_all_phases():
    for name in ("train", "verify", "profile", "bench"):
        done = command(name, "--help")
        assert all(phase in done.stdout for phase in phases.PHASES if phase != NAME)


def test_it_has_its_row(rows, measured):
    row = rows.find(NAME, batch_size=BATCH)
    assert (row.precision, row.gpus, row.change) == ("bf16", 0, ENTRY.change)
    assert (row.training, row.profile) == (measured["cpu_training"], measured["profile"])
    assert row.gain == pytest.approx(0.5 / row.step.median)
    assert row.per_image == pytest.approx(row.step.median / 3)
    assert rows.find(NAME) is None


def test_it_is_in_all_tables(rows, measured):
    other = profile_of_layers()
    shown = {
        "benchmark": tables.benchmark(measured["cpu_benchmark"]),
        "phases": analysis_tables.table(rows),
        "beside": analysis_tables.beside(measured, {"an edition": handmade.gpu_run()}),
        "spread": analysis_tables.spread(rows, measured.values()),
        "launches": tables.launches([other, measured["profile"]]),
        "before and after": tables.compared(other, measured["profile"]),
        "by layer": tables.compared(other, measured["profile"], by_layer=True),
    }
    for name, frame in shown.items():
        assert TITLE in "\n".join(tables.markdown(frame)), name
        assert not frame.isin(["nan", "inf"]).any(axis=None), name
    by_layer = shown["by layer"].set_index("operation")
    assert by_layer.loc["conv1.conv2d_forward", "ratio"]
    assert by_layer.loc["conv2 and more, weight_gradient", "ratio"] == ""


def profile_of_layers():
    return handmade.profile("gpu-v2", 0.04)


def drawn(rows, measured):
    profile, bench = measured["profile"], measured["cpu_benchmark"]
    return {
        "epoch times": analysis_figures.epoch_times(rows),
        "gains": analysis_figures.step_gains(rows),
        "time shares": analysis_figures.time_shares(rows),
        "loss over time": analysis_figures.loss_over_time(rows),
        "memory": analysis_figures.memory(rows),
        "budget": step_budget.figure(step_budget.budgets(rows)),
        "shares": figures.operation_shares([profile_of_layers(), profile]),
        "roofline": figures.roofline([profile, profile_of_layers()]),
        "step times": figures.step_times(bench),
    }


def test_it_is_in_all_figures_in_its_colour(rows, measured):
    for name, figure in drawn(rows, measured).items():
        text = figures.svg(figure)
        assert TITLE in text, name
        assert ENTRY.colour in text, name


def test_its_marker_tells_a_graph_and_a_larger_batch():
    plain, graph = figures.look(NAME), figures.look(NAME, graph=True, batch_size=128)
    assert plain["marker"] == graph["marker"] == ENTRY.marker
    assert plain["color"] == graph["color"] == ENTRY.colour
    assert (plain["fillstyle"], graph["fillstyle"]) == ("full", "none")
    assert plain["markersize"] < graph["markersize"]


def test_phases_and_libraries_have_colours_and_markers_of_their_own():
    looks = [figures.look(name) for name in (*phases.PHASES, *figures.LIBRARIES, "another")]
    colours, markers = ([look[key] for look in looks] for key in ("color", "marker"))
    assert sorted(colours) == sorted({*colours})
    assert sorted(markers[:-1]) == sorted({*markers[:-1]})


def test_the_headline_has_it(measured, tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    folder = run.path("a") / runs.RECORDS
    folder.mkdir(parents=True)
    monkeypatch.setattr(chapters, "names", lambda: ["a"])
    monkeypatch.setattr(runs, "edition", {"card": run}.__getitem__)
    for name in ("cpu_benchmark", "cpu_training"):
        records.save(measured[name], folder / f"{name}.json")
    text = headline.readme("<!-- headline of editions/card -->\n<!-- headline ends -->")
    assert f"| {TITLE} |" in text
