from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np
import pytest

from ae_core.architecture import Architecture


def test_the_books_network():
    network = Architecture()
    assert network.parameter_count == 751_875
    assert network.latent_features == 8_192
    assert network.latent.output == (128, 8, 8)
    table = [(a.name, a.output, a.parameter_count) for a in network.layers if a.kind == "conv"]
    assert table == [
        ("conv1", (256, 32, 32), 7_168),
        ("conv2", (128, 16, 16), 295_040),
        ("conv3", (128, 8, 8), 147_584),
        ("conv4", (256, 16, 16), 295_168),
        ("conv5", (3, 32, 32), 6_915),
    ]


def test_every_layer_takes_what_the_one_before_gives():
    layers = Architecture(channels=2, height=12, width=20, filters=(5, 3, 4, 6)).layers
    for before, after in pairwise(layers):
        assert after.input == before.output
    assert layers[-1].output == layers[0].output == (2, 12, 20)


def test_parameters_fill_the_buffer_without_gaps_or_overlap():
    network = Architecture()
    offset = 0
    for spec in network.parameters:
        assert spec.offset == offset
        assert spec.size == prod(spec.shape)
        offset = spec.elements.stop
    assert offset == network.parameter_count


def test_costs_count_the_arithmetic_of_a_step():
    costs = {(c.layer, c.operation): c for c in Architecture().costs()}
    forward = {k[0]: c.flops / 1e6 for k, c in costs.items() if k[1] == "conv2d_forward"}
    assert {k: round(v, 1) for k, v in forward.items()} == {
        "conv1": 14.2, "conv2": 151.0, "conv3": 18.9, "conv4": 151.0, "conv5": 14.2,
    }  # fmt: skip
    assert ("conv1", "conv2d_input_gradient") not in costs
    total = sum(c.flops for k, c in costs.items() if k[1].startswith("conv2d"))
    assert total == 2 * 9 * (3 * (3 * 256 * 1024 + 2 * 256 * 128 * 256 + 128 * 128 * 64
                                  + 256 * 3 * 1024) - 3 * 256 * 1024)  # fmt: skip
    assert costs["update", "sgd"].bytes == 12 * 751_875


def test_costs_grow_with_the_batch_but_weights_move_once():
    one, four = Architecture().costs(1), Architecture().costs(4)
    for a, b in zip(one, four, strict=True):
        if a.operation == "sgd":
            assert a == b
        else:
            assert b.flops == 4 * a.flops
            assert a.bytes <= b.bytes <= 4 * a.bytes


def test_he_initialisation():
    network = Architecture()
    buffer = network.initial_parameters(seed=3)
    assert buffer.dtype == np.float32
    for spec in network.parameters:
        tensor = buffer[spec.elements]
        if spec.name.endswith("biases"):
            assert not tensor.any()
        else:
            expected = np.sqrt(2 / prod(spec.shape[1:]))
            assert np.isclose(tensor.std(), expected, rtol=0.05)
            assert abs(tensor.mean()) < 0.05 * expected
    assert np.array_equal(buffer, network.initial_parameters(seed=3))
    assert not np.array_equal(buffer, network.initial_parameters(seed=4))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"height": 30}, "height: expected a positive multiple of 4"),
        ({"width": 0}, "width: expected a positive multiple of 4"),
        ({"height": -4}, "height: expected a positive multiple of 4"),
        ({"channels": 0}, "channels: expected counts of at least 1"),
        ({"filters": (8, 4, 0, 8)}, "filters: expected counts of at least 1"),
        ({"filters": (8, 4)}, "filters: expected four counts"),
    ],
)
def test_impossible_networks_are_refused_with_a_reason(arguments, told):
    with pytest.raises(ValueError, match=told):
        Architecture(**arguments)
