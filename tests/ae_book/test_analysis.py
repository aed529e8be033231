"""The comparison of all phases, against arithmetic done by hand on records made by hand."""

from __future__ import annotations

import re

import pytest

from ae_book.analysis import figures as analysis_figures
from ae_book.analysis import side_by_side
from ae_book.analysis import tables as analysis_tables
from ae_book.showing import figures, tables
from ae_core import phases
from ae_core.architecture import MINI
from tests import handmade
from tests.handmade import CPU

GFLOP = 1.03702887
"""Of a training step: convolutions 3 x 0.349175808 - 0.014155776, all else 0.003657222."""


@pytest.fixture
def table():
    frame = analysis_tables.table(side_by_side.phases(handmade.gpu_run(), {}))
    return frame.set_index(["implementation", "on"])


def cells(table, implementation, place="GPU"):
    return table.loc[(implementation, place)].to_dict()


def test_every_phase_has_its_row_in_the_order_of_the_book_and_libraries_follow(table):
    assert list(table.index) == [
        ("CPU loops, one thread", "1 thread"),
        ("CPU loops, all cores", "4 threads"),
        ("GPU basic, a launch per pair", "GPU"),
        ("GPU basic, a launch per filter", "GPU"),
        ("GPU v1, batched", "GPU"),
        ("GPU v1, batched, graph", "GPU"),
        ("GPU v2, implicit GEMM", "GPU"),
        ("GPU v2, implicit GEMM, graph", "GPU"),
        ("PyTorch", "4 threads"),
        ("PyTorch", "GPU"),
        ("PyTorch, graph", "GPU"),
    ]


def test_the_plain_loops_are_compared_with_themselves_and_have_no_previous_phase(table):
    assert cells(table, "CPU loops, one thread", "1 thread") == {
        "ms per image": "800",  # of the largest benchmark: the CPU's own said 9 s
        "s per 50,000": "50,000 extrapolated",  # 50,000 x 0.8 s x 1.25
        "training, s": "",
        "of images": "",
        "over plain loops": "1.00x",
        "over parallel loops": "0.125x",
        "over previous phase": "",
        "host MiB": "",
        "GPU MiB": "",
        "TFLOP/s": "0.00130",  # 1.037 GFLOP in 0.8 s
        "of roofline": "",
        "key change": "the formulas as nested loops",
    }


def test_the_parallel_loops_were_trained(table):
    found = cells(table, "CPU loops, all cores", "4 threads")
    assert found["training, s"] == "210"
    assert found["of images"] == "2,000"
    assert found["host MiB"] == "300"
    assert found["GPU MiB"] == ""
    assert found["over previous phase"] == found["over plain loops"] == "8.00x"


def test_a_slower_phase_shows_as_slower(table):
    found = cells(table, "GPU basic, a launch per pair")
    assert found["over plain loops"] == "0.500x"
    assert found["over parallel loops"] == found["over previous phase"] == "0.0625x"
    assert found["of roofline"] == "0.500 %"  # 1 ms and 3 ms at least; 2 x 0.4 s taken


def test_v2_was_measured_over_whole_epochs(table):
    assert cells(table, "GPU v2, implicit GEMM") == {
        "ms per image": "10.0",
        "s per 50,000": "610",  # (600 + 620) / 2
        "training, s": "1,220",
        "of images": "100,000",
        "over plain loops": "80.0x",
        "over parallel loops": "10.0x",
        "over previous phase": "2.00x",
        "host MiB": "300",
        "GPU MiB": "20.0",
        "TFLOP/s": "0.104",  # 1.037 GFLOP in 10 ms
        "of roofline": "50.0 %",  # 4 ms of 8 ms
        "key change": "tiles of a matrix product in shared memory and registers",
    }


def test_a_graph_is_compared_with_its_own_phase_and_has_no_profile_of_its_own(table):
    found = cells(table, "GPU v2, implicit GEMM, graph")
    assert found["over previous phase"] == "2.50x"
    assert found["s per 50,000"] == "250"  # as many steps as an epoch has: 50,000 x 4 ms x 1.25
    assert found["of roofline"] == found["training, s"] == found["GPU MiB"] == ""


def test_libraries_have_no_previous_phase(table):
    found = cells(table, "PyTorch, graph")
    assert found["over plain loops"] == "100x"
    assert found["over parallel loops"] == "12.5x"
    assert found["over previous phase"] == ""
    assert cells(table, "PyTorch", "4 threads")["over plain loops"] == "16.0x"
    assert cells(table, "PyTorch")["over plain loops"] == "20.0x"


def test_rates_are_of_the_whole_steps_arithmetic():
    row = side_by_side.phases(handmade.gpu_run(), {}).find("gpu-v2")
    assert row.flops_rate == pytest.approx(1e9 * GFLOP / 0.01)


def test_rows_of_several_machines_of_one_run_say_which():
    run = handmade.laptop_run() | {"gpu_benchmark": handmade.benchmark(handmade.step("gpu-v1", 1))}
    frame = analysis_tables.table(side_by_side.phases(run, {}))
    assert list(frame["from"]) == [
        "this run: Other CPU, 2 cores",
        "this run: Other CPU, 2 cores",
        "this run: Some CPU, 4 cores, Some GPU",
    ]


def test_a_machine_without_a_gpu_shows_a_published_run_beside_its_own_rows():
    rows = side_by_side.phases(handmade.laptop_run(), {"h100 edition": handmade.gpu_run()})
    assert [row.published for row in rows] == [False] * 2 + [True] * 11
    frame = analysis_tables.table(rows)
    assert list(frame["from"]) == ["this run"] * 2 + ["h100 edition, published"] * 11
    frame = frame.set_index(["from", "implementation"])
    assert frame.loc[("this run", "CPU loops, all cores"), "over plain loops"] == "4.00x"
    published = frame.loc["h100 edition, published"]
    v1 = published.loc["GPU v1, batched"]
    assert v1["over plain loops"] == "40.0x"  # 0.8 s / 20 ms, never this machine's 1 s / 20 ms
    assert v1["ms per image"] == "20.0"  # not the emulator's
    assert v1["training, s"] == ""


def test_times_of_two_machines_are_never_divided_by_each_other():
    run = handmade.laptop_run() | {"gpu_benchmark": handmade.benchmark(handmade.step("gpu-v1", 1))}
    rows = side_by_side.phases(run, {})
    assert rows.find("cpu-parallel").speedup("cpu") == 4
    assert rows.find("gpu-v1").speedup("cpu") is None
    frame = analysis_tables.table(rows).set_index("implementation")
    for column in ("over plain loops", "over parallel loops", "over previous phase"):
        assert frame.loc["GPU v1, batched", column] == ""


@pytest.mark.parametrize(
    "other", [{"cores": 8}, {"gpu": "Other GPU"}, {"gpu": None}, {"cpu": "Other CPU"}]
)
def test_a_machine_is_its_processor_its_cores_and_its_card(other):
    there = handmade.provenance(**other)
    run = {
        "a": handmade.benchmark(handmade.step("cpu", 1.0, CPU)),
        "b": handmade.benchmark(handmade.step("cpu-parallel", 0.5, CPU), facts=there),
        "c": handmade.training("cpu", 1000, (9.0,), CPU, there),
    }
    rows = side_by_side.phases(run, {})
    assert [(row.name, row.speedup("cpu"), row.trained_seconds) for row in rows] == [
        ("cpu", 1.0, None),
        ("cpu", None, 9.0),
        ("cpu-parallel", None, None),
    ]


def test_a_run_that_has_every_phase_needs_no_published_one():
    rows = side_by_side.phases(handmade.gpu_run(), {"h100 edition": handmade.gpu_run()})
    assert not any(row.published for row in rows)
    assert "from" not in analysis_tables.table(rows)


def test_the_edition_with_most_of_what_is_missing_is_taken():
    whole = handmade.gpu_run()
    part = {"gpu_benchmark": handmade.benchmark(handmade.step("gpu-v1", 0.1))}
    rows = side_by_side.phases(handmade.laptop_run(), {"a": part, "b": whole, "c": whole})
    assert {row.origin for row in rows if row.published} == {"b"}


def test_rows_that_are_all_published_still_say_so():
    frame = analysis_tables.table(side_by_side.phases({}, {"h100 edition": handmade.gpu_run()}))
    assert set(frame["from"]) == {"h100 edition, published"}


def test_nothing_measured_is_no_rows():
    assert side_by_side.phases({}, {}) == ()
    assert analysis_tables.table([]).empty
    assert side_by_side.one_machine([]) == ()


def test_every_subset_of_records_gives_a_table_without_zeros():
    run = handmade.gpu_run()
    for left_out in run:
        frame = analysis_tables.table(
            side_by_side.phases({name: run[name] for name in run if name != left_out}, {})
        )
        assert not frame.isin(["0", "0x", "0 %", "nan", "None"]).any(axis=None), left_out
    for only in run:
        assert len(side_by_side.phases({only: run[only]}, {}))


def test_a_phase_that_was_only_profiled_has_the_profiles_step():
    (row,) = side_by_side.phases({"p": handmade.profile("gpu-v1", 0.02)}, {})
    assert row.per_image == 0.02
    assert row.extrapolated


def test_a_phase_that_was_only_trained_has_no_step_but_its_training():
    (row,) = side_by_side.phases({"t": handmade.training("gpu-v1", 100, (5.0, 5.0))}, {})
    assert (row.per_image, row.flops_rate, row.speedup("cpu")) == (None, None, None)
    assert (row.per_epoch, row.extrapolated) == (None, False)
    assert (row.trained_seconds, row.trained_images) == (10.0, 200)


def test_epochs_of_an_earlier_run_do_not_count():
    resumed = handmade.training("gpu-v2", 50_000, (60.0, 10.0)).model_copy(
        update={"resumed_after": 1}
    )
    (row,) = side_by_side.phases({"t": resumed}, {})
    assert (row.trained_seconds, row.trained_images, row.per_epoch) == (10.0, 50_000, 10.0)


@pytest.mark.parametrize(
    "record",
    [
        handmade.training("gpu-v2", 100, (1.0,), initial_scale=0.3),
        handmade.training("gpu-v2", 100, (1.0,), architecture=MINI),
        handmade.training("gpu-v2", 100, (1.0,), handmade.EMULATOR),
        handmade.profile("gpu-v2", 1.0, handmade.EMULATOR),
        handmade.profile("gpu-v2", 1.0).model_copy(update={"architecture": MINI}),
        handmade.benchmark(handmade.step("gpu-of-old", 1.0)),
        handmade.training("gpu-of-old", 100, (1.0,)),
        handmade.benchmark(handmade.step("gpu-v2", 1.0)).model_copy(update={"architecture": MINI}),
    ],
)
def test_other_work_than_the_phases_is_no_row(record):
    assert side_by_side.phases({"record": record}, {}) == ()


def test_of_two_trainings_the_longer_counts_and_a_graphs_is_its_own():
    run = {
        "a": handmade.training("gpu-v2", 100, (1.0,)),
        "b": handmade.training("gpu-v2", 200, (2.0,)),
        "c": handmade.training("gpu-v2", 50, (0.5,)),
        "d": handmade.training("gpu-v2", 300, (0.3,), graph=True),
    }
    rows = side_by_side.phases(run, {})
    assert rows.find("gpu-v2").trained_seconds == 2.0
    assert rows.find("gpu-v2", graph=True).trained_seconds == 0.3


def test_sentences_compare_rows_of_the_machine_that_has_most_phases():
    rows = side_by_side.phases(handmade.laptop_run(), {"h100 edition": handmade.gpu_run()})
    told = side_by_side.one_machine(rows)
    assert {row.origin for row in told} == {"h100 edition"}
    assert told.timed == {*phases.PHASES, "PyTorch"}
    assert told.find("PyTorch").on_gpu and told.find("PyTorch", graph=True)
    assert told.find("PyTorch", graph=True, precision="bf16") is None


def test_runs_stand_side_by_side_without_ratios():
    frame = analysis_tables.beside(handmade.laptop_run(), {"h100 edition": handmade.gpu_run()})
    assert list(frame) == ["implementation", "this run, ms", "h100 edition, ms"]
    found = frame.set_index("implementation").T.to_dict("list")
    assert found["CPU loops, one thread"] == ["1,000", "800"]
    assert found["GPU v1, batched"] == ["", "20.0"]
    assert found["PyTorch"] == ["", "40.0"]


def test_a_loss_trace_spreads_its_points_over_the_time():
    record = handmade.training("gpu-v1", 10, (4.0, 8.0))
    seconds, losses = analysis_figures.loss_trace(record)
    assert seconds == [2.0, 4.0, 8.0, 12.0]
    assert losses == [1.5, 0.5, 0.75, 0.25]


def test_without_a_trace_an_epoch_is_one_point_at_its_end():
    record = handmade.training("gpu-v1", 10, (4.0, 8.0))
    bare = [epoch.model_copy(update={"trace": ()}) for epoch in record.epochs]
    seconds, losses = analysis_figures.loss_trace(record.model_copy(update={"epochs": bare}))
    assert seconds == [4.0, 12.0]
    assert losses == [1.0, 0.5]


def test_extrapolated_bars_are_hatched_and_measured_ones_are_not():
    (axis,) = analysis_figures.epoch_times(side_by_side.phases(handmade.gpu_run(), {})).axes
    measured = [bar.get_width() for bar in axis.patches if not bar.get_hatch()]
    assert measured == [610, 250]
    assert len(axis.patches) == 11


def test_hatches_stand_on_no_ground_of_their_own_colour():
    """An SVG's pattern paints the bar's face below its lines, without the face's transparency."""
    text = figures.svg(analysis_figures.epoch_times(side_by_side.phases(handmade.gpu_run(), {})))
    grounds = re.findall(r"<pattern [^>]*>\s*<rect [^>]*fill=\"([^\"]*)\"", text)
    assert set(grounds) == {"none"}


def test_published_bars_stand_under_a_heading_on_a_band():
    rows = side_by_side.phases(handmade.laptop_run(), {"h100 edition": handmade.gpu_run()})
    for draw in (analysis_figures.epoch_times, analysis_figures.step_gains):
        (axis,) = draw(rows).axes
        labels = [label.get_text() for label in axis.get_yticklabels()]
        heading = labels.index("h100 edition, published")
        assert labels[0] == "this run"
        (band,) = (p for p in axis.patches if p.get_y() == heading - 0.5 and p.get_height() > 2)
        assert band.get_y() + band.get_height() == len(labels) - 0.5


def test_gains_start_from_one_and_point_left_where_time_was_lost():
    (axis,) = analysis_figures.step_gains(side_by_side.phases(handmade.gpu_run(), {})).axes
    ends = [bar.get_x() + bar.get_width() for bar in axis.patches]
    assert {bar.get_x() for bar in axis.patches} == {1}
    assert ends == pytest.approx([8, 1 / 16, 8, 10, 1.25, 2, 2.5])


def test_shares_of_a_step_add_up_to_all_of_it():
    figure = analysis_figures.time_shares(side_by_side.phases(handmade.gpu_run(), {}))
    (axis,) = figure.axes
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([25] * 3 * 4)
    ends = [bar.get_x() + bar.get_width() for bar in axis.patches[3::4]]
    assert ends == pytest.approx([100] * 3)
    drawn = [text.get_text() for text in figure.legends[0].get_texts()]
    assert drawn == ["convolution, forward", "convolution, weight gradient", "all else", "gaps"]


def test_memory_has_a_side_for_the_gpu_only_where_there_is_one():
    rows = side_by_side.phases(handmade.gpu_run(), {})
    host, gpu = analysis_figures.memory(rows).axes
    assert [bar.get_width() for bar in host.patches] == [300, 300]
    assert [bar.get_width() for bar in gpu.patches] == [20]
    assert len(analysis_figures.memory([row for row in rows if not row.on_gpu]).axes) == 1


def test_a_run_of_one_phase_and_none_can_be_drawn():
    one = side_by_side.phases({"a": handmade.benchmark(handmade.step("cpu", 1.0, CPU))}, {})
    for rows in (one, []):
        for draw in (
            analysis_figures.epoch_times,
            analysis_figures.step_gains,
            analysis_figures.time_shares,
            analysis_figures.loss_over_time,
            analysis_figures.memory,
        ):
            figures.svg(draw(rows))


def test_a_steps_spread_stands_beside_what_other_runs_and_training_took():
    """v2: 10 ms in the large benchmark, 16 in its profile, 1,220 s over two epochs in training."""
    run = handmade.gpu_run()
    rows = side_by_side.one_machine(side_by_side.phases(run, {}))
    frame = analysis_tables.spread(rows, run.values()).set_index("implementation")
    v2 = frame.loc["GPU v2, implicit GEMM"]
    assert v2["ms per image"] == "10.0" and v2["80 % within"] == "9.00 to 15.0"
    assert v2["mean over median"] == "1.25"
    assert v2["median in other runs"] == "16.0"
    assert v2["trained, ms an image"] == "12.2"
    loops = frame.loc["CPU loops, one thread"]
    assert loops["median in other runs"] == "800 to 9,000"  # in its profile, and in chapter 2
    alone = frame.loc["GPU v1, batched"]
    assert alone["median in other runs"] == alone["trained, ms an image"] == ""


def batched_run():
    """A step of 20 ms with one image and with 128, beside plain loops of 0.8 s an image."""
    steps = [
        handmade.step("cpu", 0.8, CPU),
        handmade.step("gpu-v1", 0.08, batch_size=128),
        handmade.step("gpu-v2", 0.02),
        handmade.step("gpu-v2", 0.02, batch_size=128),
        handmade.step("gpu-v2", 0.01, batch_size=128, graph=True),
        handmade.step("PyTorch", 0.01, peer=True),
        handmade.step("PyTorch", 0.04, batch_size=128, peer=True),
        handmade.step("PyTorch", 0.005, batch_size=128, peer=True, precision="bf16", graph=True),
    ]
    return {"gpu_benchmark": handmade.benchmark(*steps)}


def test_batches_are_compared_per_image():
    """40 times as fast a step, for 128 times as many images."""
    rows = side_by_side.phases(batched_run(), {})
    single, batch = rows.find("gpu-v2"), rows.find("gpu-v2", batch_size=128)
    assert single.speedup("cpu") == pytest.approx(40)
    assert batch.speedup("cpu") == pytest.approx(5120)
    assert batch.flops_rate == pytest.approx(128 * 1e9 * GFLOP / 0.02, rel=1e-2)  # one update
    table = analysis_tables.table(rows).set_index("implementation")
    assert table["over plain loops"].to_dict() == {
        "CPU loops, one thread": "1.00x",
        "GPU v1, batched, batch size 128": "1,280x",
        "GPU v2, implicit GEMM": "40.0x",
        "GPU v2, implicit GEMM, batch size 128": "5,120x",
        "GPU v2, implicit GEMM, graph, batch size 128": "10,240x",
        "PyTorch": "80.0x",
        "PyTorch, batch size 128": "2,560x",
        "PyTorch, graph, bf16, batch size 128": "20,480x",
    }
    assert table.loc["GPU v2, implicit GEMM, batch size 128", "ms per image"] == "0.156"


def test_a_phase_gains_over_the_one_before_at_the_same_batch_size():
    rows = side_by_side.phases(batched_run(), {})
    assert rows.find("gpu-v2", batch_size=128).gain == pytest.approx(4)
    assert rows.find("gpu-v2", batch_size=128, graph=True).gain == pytest.approx(2)
    assert rows.find("gpu-v2").gain is None  # v1 was not timed with one image
    assert rows.find("PyTorch", batch_size=128).gain is None


def test_what_a_benchmark_prints_compares_per_image_and_like_with_like():
    frame = tables.benchmark(batched_run()["gpu_benchmark"]).set_index("implementation")
    batch = frame.loc["GPU v2, implicit GEMM, batch size 128"]
    assert (batch["ms per image"], batch["speed-up"]) == ("0.156", "5,120x")
    assert batch["time / PyTorch's"] == "0.500"  # of its 40 ms with as many images, in float32
    assert frame.loc["GPU v2, implicit GEMM", "time / PyTorch's"] == "2.00"
    assert frame.loc["CPU loops, one thread", "time / PyTorch's"] == ""


def test_rows_keep_every_batch_size_that_was_trained():
    run = {
        "a": handmade.training("gpu-v2", 100, (1.0,)),
        "b": handmade.training("gpu-v2", 100, (0.5,), batch_size=32),
    }
    rows = side_by_side.phases(run, {})
    assert [(row.batch_size, row.trained_seconds) for row in rows] == [(1, 1.0), (32, 0.5)]
    first, second = analysis_figures.loss_over_time(rows).axes[0].lines
    assert first.get_color() == second.get_color() == phases.PHASES["gpu-v2"].colour
    assert first.get_linewidth() < second.get_linewidth()
    assert second.get_label().endswith("batch size 32")


def test_runs_stand_side_by_side_at_every_batch_size():
    frame = analysis_tables.beside(batched_run(), {"h100 edition": handmade.gpu_run()})
    found = frame.set_index("implementation").T.to_dict("list")
    assert found["GPU v2, implicit GEMM"] == ["20.0", "10.0"]
    assert found["GPU v2, implicit GEMM, batch size 128"] == ["0.156", ""]


def test_several_gpus_are_compared_with_one():
    steps = [
        handmade.step("gpu-v1", 0.08),
        handmade.step("gpu-v2", 0.02),
        handmade.step("gpu-v2", 0.0125, gpus=2),
    ]
    rows = side_by_side.phases({"b": handmade.benchmark(*steps)}, {})
    assert [(row.title, row.gain) for row in rows] == [
        ("GPU v1, batched", None),
        ("GPU v2, implicit GEMM", pytest.approx(4)),
        ("GPU v2, implicit GEMM, 2 GPUs", pytest.approx(1.6)),
    ]
