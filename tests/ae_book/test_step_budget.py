"""Where time is left, and bounds on what ideas gain, against arithmetic done by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ae_book.analysis import side_by_side, step_budget
from ae_book.analysis.side_by_side import Variant
from ae_core.architecture import Architecture
from tests import handmade

BUDGET = step_budget.Budget(
    Variant.of(handmade.step("gpu-v2", 8.0)),
    gaps=1,
    rest=2,
    convolutions=4,
    rest_floor=0.25,
    convolutions_floor=0.75,
)


def rows(**changes):
    return side_by_side.one_machine(
        side_by_side.rows_of(handmade.gpu_run() | changes, "here", False)
    )


def test_a_step_is_split_in_four_that_add_up_to_it():
    """40 ms: three operations of 10 ms each, of which 1, 3 and 0.001 are their floors."""
    found = step_budget.budget(handmade.profile("gpu-v1", 0.04))
    assert np.isclose(found.floor, 4.001e-3)
    assert np.isclose(found.rest_floor, 1e-6)
    assert np.isclose(found.convolutions, 20e-3 - 4e-3)
    assert np.isclose(found.rest, 10e-3 - 1e-6)
    assert np.isclose(found.gaps, 10e-3)
    assert np.isclose(found.step, 40e-3)


def test_an_operation_that_beats_its_floor_has_nothing_beyond_it():
    """Caches can feed a kernel faster than memory; what is left must not turn negative."""
    found = step_budget.budget(handmade.profile("gpu-v1", 0.004))
    assert np.isclose(found.floor, 1e-3 + 1e-3 + 1e-6)
    assert np.isclose(found.convolutions, 0)
    assert np.isclose(found.step, 4e-3)


def test_a_graph_has_its_own_step_and_the_kernels_of_its_phase():
    profile = handmade.profile("gpu-v2", 0.04)
    long, short = (
        step_budget.budget(profile, handmade.step("gpu-v2", seconds, graph=True))
        for seconds in (0.032, 0.029)
    )
    assert np.isclose(long.gaps, 2e-3)
    assert short.variant.graph
    assert short.gaps == 0
    assert np.isclose(short.step, 29e-3)
    assert np.isclose(short.convolutions / short.rest, 16 / 9.999)


def test_what_cant_be_split_is_not():
    profile = handmade.profile("gpu-basic", 0.04)
    launching = profile.model_copy(update={"includes_launches": True})
    assert step_budget.budget(launching) is None
    assert step_budget.budget(handmade.profile("cpu", 0.04, handmade.CPU)) is None


def test_a_batchs_step_is_split_for_each_of_its_images():
    """40 ms for ten images, as before for one."""
    found = step_budget.budget(handmade.profile("gpu-v1", 0.04, batch_size=10))
    assert np.isclose(found.step, 4e-3) and np.isclose(found.gaps, 1e-3)
    assert np.isclose(found.floor, 4.001e-4)
    assert found.variant.title == "GPU v1, batched, batch size 10"


def test_bounds_are_amdahls_law():
    assert BUDGET.floor == 1
    assert BUDGET.without("gaps") == 8 / 7
    assert BUDGET.without("convolutions") == 2
    assert BUDGET.without("gaps", "rest", "convolutions") == 8


def test_budgets_are_of_phases_that_fit_one_scale_and_of_their_graphs():
    added = {"profile_gpu-v1": handmade.profile("gpu-v1", 0.02)}
    found = [each.variant for each in step_budget.budgets(rows(**added))]
    assert [(v.name, v.graph) for v in found] == [
        ("gpu-v1", False),
        ("gpu-v1", True),
        ("gpu-v2", False),
        ("gpu-v2", True),
    ]


def test_ideas_are_amdahls_law_or_were_measured():
    measured = rows()
    table = step_budget.ideas(BUDGET, measured).set_index("idea")["times as fast"]
    assert table["launch nothing from the host"] == "1.14x"
    assert table["fuse what is not convolution"] == "1.39x"
    assert table["all kernels at their floor"] == "8.00x"
    assert "32 images a step" not in table
    none = replace(BUDGET, gaps=0.0)
    assert "launch nothing from the host" not in step_budget.ideas(none, measured)["idea"].to_list()


@pytest.mark.parametrize("graph", [False, True])
def test_batches_are_held_against_single_images_launched_likewise(graph):
    """100 s for an epoch in batches; singly 300 s, or 200 s as a graph."""
    singly = {
        "training_gpu-v2": handmade.training("gpu-v2", 50_000, (300.0,)),
        "training_report": handmade.training("gpu-v2", 50_000, (200.0,), graph=True),
    }
    batched = handmade.training("gpu-v2", 50_000, (100.0,), batch_size=32, graph=graph)
    table = step_budget.ideas(BUDGET, rows(**singly), batched).set_index("idea")["times as fast"]
    assert table["32 images a step"] == ("2.00x" if graph else "3.00x")


def test_folding_an_upsampling_leaves_four_ninths_of_the_layer_behind_it():
    """Conv4 and conv5 read upsampled planes; counted by hand for a network of one channel each."""
    network = Architecture()
    costs = {c.layer: c.flops for c in network.costs() if c.operation == "conv2d_forward"}
    folded = {"conv4", "conv5"}
    passes = {name: 2 if name == "conv1" else 3 for name in costs}  # no gradient for the images
    kept = sum(passes[n] * f * (4 / 9 if n in folded else 1) for n, f in costs.items())
    total = sum(passes[n] * f for n, f in costs.items())
    assert np.isclose(step_budget.folded_arithmetic(network), kept / total)


def test_the_figure_has_a_stacked_bar_for_each_step():
    found = step_budget.budgets(rows())
    axis = step_budget.figure(found).axes[0]
    widths = [patch.get_width() for patch in axis.patches]
    assert np.allclose(sum(widths), 1e3 * sum(each.step for each in found))
    assert [t.get_text() for t in axis.get_yticklabels()][-1].lower().startswith("gpu v2")
