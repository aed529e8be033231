from __future__ import annotations

import numpy as np
import pytest

from ae_core import phases
from ae_core.architecture import Architecture
from ae_core.autoencoder import Autoencoder
from ae_core.errors import InputError
from ae_core.phases.feed import Feed
from ae_core.phases.plan import Cost, Step
from tests.conftest import SMALL


def create(batch_size: int = 1, **options) -> Autoencoder:
    return Autoencoder(phases.create("cpu-parallel", SMALL, batch_size), **options)


@pytest.fixture
def images(random):
    return random.random((5, 3, 8, 8), dtype=np.float32)


def test_shapes(images):
    autoencoder = create(batch_size=2)
    assert autoencoder.encode(images).shape == (5, 4 * 2 * 2)
    assert autoencoder.reconstruct(images).shape == images.shape
    assert autoencoder.errors(images).shape == (5,)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
def test_batches_of_any_size_give_the_same(images, batch_size):
    """Also ragged ones: 5 images in batches of 2 end with a batch of 1."""
    one, many = create(), create(batch_size)
    np.testing.assert_array_equal(one.encode(images), many.encode(images))
    np.testing.assert_array_equal(one.reconstruct(images), many.reconstruct(images))
    np.testing.assert_array_equal(one.errors(images), many.errors(images))


def test_a_batchs_gradient_is_the_mean_of_its_images_gradients(images):
    loss, together = create(batch_size=5).gradients(images)
    alone = [create().gradients(images[i : i + 1]) for i in range(5)]
    assert np.isclose(loss, np.mean([one[0] for one in alone]))
    for name, gradient in together.items():
        mean = np.mean([one[1][name] for one in alone], axis=0)
        np.testing.assert_allclose(gradient, mean, rtol=1e-4, atol=1e-7)


def test_a_step_goes_down_the_gradient(images):
    autoencoder = create(batch_size=2)
    before, (_, gradients) = autoencoder.parameters(), autoencoder.gradients(images[:2])
    feed = Feed(autoencoder.device, images[:2])
    autoencoder.take_from(feed)
    autoencoder.learning_rate = 0.5
    autoencoder.step()
    loss = feed.read_losses()
    assert np.isfinite(loss).all()
    for name, tensor in autoencoder.parameters().items():
        np.testing.assert_allclose(tensor, before[name] - 0.5 * gradients[name], atol=1e-7)
    assert autoencoder.errors(images[:2]).mean() < loss.mean()


def test_warming_up_changes_no_bit(images):
    autoencoder = create(batch_size=2)
    before = autoencoder.parameters()
    autoencoder.learning_rate = 0.5
    autoencoder.warm_up()
    feed = Feed(autoencoder.device, images[:3])
    autoencoder.take_from(feed)
    autoencoder.warm_up()
    assert autoencoder.learning_rate == 0.5 and feed.position == 0
    for name, tensor in autoencoder.parameters().items():
        assert tensor.tobytes() == before[name].tobytes()


def test_parameters_come_back_as_they_were_loaded(images):
    source, target = create(seed=1), create(seed=2)
    assert not np.array_equal(source.encode(images), target.encode(images))
    target.load_parameters(source.parameters())
    np.testing.assert_array_equal(source.encode(images), target.encode(images))


def test_returned_parameters_are_copies(images):
    autoencoder = create()
    before = autoencoder.encode(images)
    for tensor in autoencoder.parameters().values():
        tensor[:] = 0
    np.testing.assert_array_equal(autoencoder.encode(images), before)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: p.pop("conv3.biases"), "missing conv3.biases"),
        (lambda p: p.update(extra=np.zeros(1)), "unknown extra"),
        (lambda p: p.update({"conv1.biases": np.zeros(7)}), r"conv1.biases: expected shape \(6,\)"),
        (lambda p: p["conv2.weights"].fill(np.nan), "conv2.weights: expected finite numbers"),
    ],
)
def test_wrong_parameters_are_refused(change, told):
    autoencoder = create()
    parameters = autoencoder.parameters()
    change(parameters)
    before = autoencoder.parameters()
    with pytest.raises(ValueError, match=told):
        autoencoder.load_parameters(parameters)
    for name, tensor in autoencoder.parameters().items():
        np.testing.assert_array_equal(tensor, before[name])


def test_wrong_images_are_refused(images):
    autoencoder = create(batch_size=2)
    told = r"expected \(N, 3, 8, 8\), found \(1, 3, 8, 9\)"
    for method in (autoencoder.encode, autoencoder.errors, autoencoder.gradients):
        with pytest.raises(InputError, match=told):
            method(np.zeros((1, 3, 8, 9), np.float32))
    for count in (0, 3):
        with pytest.raises(InputError, match=f"expected 1 to 2, found {count}"):
            autoencoder.gradients(images[:count])
    with pytest.raises(InputError, match=r"feed: expected images \(3, 8, 8\), found \(3, 4, 4\)"):
        autoencoder.take_from(Feed(autoencoder.device, np.zeros((1, 3, 4, 4), np.float32)))


def test_a_step_needs_a_feed_that_has_enough_left(images):
    autoencoder = create(batch_size=2)
    with pytest.raises(InputError, match="expected a feed to take images from, found none"):
        autoencoder.step()
    autoencoder.take_from(Feed(autoencoder.device, images[:3]))
    autoencoder.step()
    with pytest.raises(InputError, match="at most 1 images, which the epoch has left, found 2"):
        autoencoder.step()
    with pytest.raises(InputError, match="images: expected 1 to 2, found 3"):
        autoencoder.step(3)


def test_steps_between_gradients_and_update_are_run_there(images):
    """As several GPUs do, who make one mean of their gradients."""
    plan = phases.create("cpu-parallel", SMALL, 2)

    def halve() -> None:
        plan.gradients *= 0.5

    exchange = Step("half", "exchange", Cost(0, 1), halve)
    halved, whole = Autoencoder(plan, exchange=[exchange]), create(batch_size=2)
    for autoencoder, rate in ((halved, 0.5), (whole, 0.25)):
        autoencoder.take_from(Feed(autoencoder.device, images[:2]))
        autoencoder.learning_rate = rate
        autoencoder.step()
    assert [step.kind for step in halved.steps(2)].count("exchange") == 1
    assert halved.digest() == whole.digest()


def test_all_phases_start_from_the_same_parameters():
    first, *others = (Autoencoder(phases.create(name, SMALL), seed=5) for name in phases.PHASES)
    for other in others:
        for name, tensor in first.parameters().items():
            np.testing.assert_array_equal(tensor, other.parameters()[name])


def test_pytorch_computes_the_same_network(images):
    torch = pytest.importorskip("torch", reason="extra [peer] is not installed")
    from ae_core.measuring import pytorch

    architecture = Architecture(channels=3, height=8, width=8, filters=(6, 4, 4, 6))
    model = pytorch.network(architecture)
    autoencoder = create(batch_size=5)
    batch = torch.from_numpy(images)
    torch.nn.functional.mse_loss(model(batch), batch).backward()
    np.testing.assert_allclose(
        autoencoder.reconstruct(images), model(batch).detach().numpy(), atol=1e-5
    )
    _, gradients = autoencoder.gradients(images)
    for name, parameter in zip(gradients, model.parameters(), strict=True):
        np.testing.assert_allclose(gradients[name], parameter.grad.numpy(), atol=1e-5)
