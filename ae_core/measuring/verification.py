"""Proof that a phase computes what it should: by difference quotients, and against the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ae_core import phases
from ae_core.architecture import Architecture
from ae_core.autoencoder import Autoencoder, default_architecture
from ae_core.data.cifar10 import Dataset, normalise
from ae_core.devices.device import Device, Host
from ae_core.devices.kernel_device import KernelDevice
from ae_core.numbers import small
from ae_core.parameters import CheckedImages, CheckedSteps, LearningRate, Precision, Seed, validated
from ae_core.phases.feed import Feed
from ae_core.phases.layered import Layered
from ae_core.records import Difference, VerificationRecord, provenance
from ae_core.records.base import Model

HostArray = npt.NDArray[np.floating]

FINITE_DIFFERENCE_TOLERANCE = 1e-5
"""Central differences in float64 err by about 1e-8 of the gradient's norm."""
FINITE_DIFFERENCE_STEPS = (1e-6, 1e-8)
"""The second is for elements whose first step crosses a kink of ReLU or pooling, where the quotient
is the mean of two slopes. A gradient that is wrong disagrees with both."""


class DisagreementError(ArithmeticError):
    """A phase computes something else than its reference, or not the same bits twice."""


@dataclass(frozen=True)
class Tolerances:
    """The largest relative difference from the reference that passes, by quantity."""

    forward: float
    """Of outputs and losses of one pass."""
    gradient: float
    """Where two values of a pooling window, or a value and zero, are closer than rounding, another
    one wins and its gradient takes another way."""
    weights: float
    """After some steps: most of a weight is still its initial value, which is the same."""
    biases: float
    """After some steps: biases start at zero and are sums of cancelling gradients, whose rounding
    stands out."""
    losses: float
    """Of successive steps: rounding carries over from one to the next."""

    def of(self, quantity: str) -> float:
        """The tolerance of a quantity by its name in a record."""
        if quantity.startswith("gradient"):
            return self.gradient
        if not quantity.startswith("after"):
            return self.forward
        if quantity.endswith("weights"):
            return self.weights
        return self.biases if quantity.endswith("biases") else self.losses


TOLERANCES: dict[Precision, Tolerances] = {
    # Rounds by 6e-8; sums of 2,304 products in sequence err by about 1e-6 of their norm, conv1's
    # gradient by 2e-5, biases of the plain loops by 6e-4.
    "float32": Tolerances(forward=1e-5, gradient=1e-4, weights=1e-5, biases=2e-3, losses=1e-4),
    # Operands round by 5e-4 and 4e-3 at most, a third of that in the mean; products of two by 1.4
    # times as much, and layer upon layer adds to it. One value in some hundred changes its winner.
    "TF32": Tolerances(forward=3e-3, gradient=3e-2, weights=1e-3, biases=5e-2, losses=3e-3),
    "bf16": Tolerances(forward=2e-2, gradient=1.5e-1, weights=5e-3, biases=3e-1, losses=2e-2),
}

FAR = 1e100
"""Stands for the distance to a NaN, since JSON has no infinity."""


def difference(
    quantity: str, found: npt.ArrayLike, reference: npt.ArrayLike, tolerance: float
) -> Difference:
    """How far `found` is from `reference`; NaN anywhere counts as infinitely far.

    Raises:
        ValueError: the shapes differ.
    """
    a, b = np.asarray(found, np.float64), np.asarray(reference, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"{quantity}: expected shape {b.shape}, found {a.shape}")
    finite = bool(np.isfinite(a).all() and np.isfinite(b).all())
    error = np.abs(a - b) if finite else np.full(a.shape, FAR)
    norm = max(float(np.linalg.norm(b)), np.finfo(np.float64).tiny) if finite else 1.0
    return Difference(
        quantity=quantity,
        max_absolute=float(error.max()),
        mean_absolute=float(error.mean()),
        relative=float(np.linalg.norm(error) / norm),
        tolerance=tolerance,
    )


def check_gradients(
    architecture: Architecture,
    *,
    phase: str = "cpu",
    per_tensor: int | None = None,
    seed: int = 0,
) -> list[Difference]:
    """A CPU phase's gradients against central differences, all in float64.

    Covers every parameter tensor and the image (with the target held fixed).

    Args:
        architecture: the network to check.
        phase: which loops: `cpu` or `cpu-parallel`.
        per_tensor: how many random elements of each tensor; all of them by default.
        seed: of the image, the parameters and the choice of elements.
    """
    random = np.random.default_rng(seed)
    plan = cast(Layered, phases.create(phase, architecture, dtype=np.float64, image_gradient=True))
    autoencoder = Autoencoder(plan, seed=seed)
    image = random.random((1, *architecture.layers[0].output))
    target = image.copy()
    parameters = autoencoder.parameters()
    for name, tensor in parameters.items():
        if name.endswith("biases"):  # away from zero, so that they matter
            tensor[:] = random.normal(0, 0.1, tensor.shape)
    autoencoder.load_parameters(parameters)
    _, gradients = autoencoder.gradients(image)
    gradients["image"] = plan.image_gradient()

    def quotient(tensor: HostArray, element: int, step: float) -> float:
        kept = tensor.flat[element]
        losses = []
        for moved in (kept - step, kept + step):
            tensor.flat[element] = moved
            autoencoder.load_parameters(parameters)
            losses.append(np.square(autoencoder.reconstruct(image) - target).mean())
        tensor.flat[element] = kept
        return float(losses[1] - losses[0]) / (2 * step)

    def closest(tensor: HostArray, element: int, claimed: float, norm: float) -> float:
        first, second = FINITE_DIFFERENCE_STEPS
        found = quotient(tensor, element, first)
        if abs(found - claimed) > FINITE_DIFFERENCE_TOLERANCE / 100 * norm:
            found = min(found, quotient(tensor, element, second), key=lambda q: abs(q - claimed))
        return found

    found = []
    for name, gradient in gradients.items():
        tensor = image if name == "image" else parameters[name]
        elements = random.permutation(tensor.size)[:per_tensor]
        claimed, norm = gradient.flat[elements], float(np.linalg.norm(gradient.flat[elements]))
        quotients = [
            closest(tensor, int(element), float(value), norm)
            for element, value in zip(elements, claimed, strict=True)
        ]
        found.append(difference(name, claimed, quotients, FINITE_DIFFERENCE_TOLERANCE))
    return found


def verify_gradients(
    dataset: Dataset,
    *,
    architecture: Architecture | None = None,
    per_tensor: int | None = None,
    seed: int = 0,
) -> VerificationRecord:
    """`check_gradients` of the plain loops, as a record; the image is random, not the dataset's."""
    facts, device, architecture = provenance.current(), Host(), architecture or Architecture()
    elements = f"{per_tensor} elements" if per_tensor else "every element"
    return VerificationRecord(
        provenance=facts,
        dataset=dataset.identity,
        device=device.name,
        device_kind=device.kind,
        phase="cpu",
        reference=f"central differences in float64, {elements} of each tensor",
        architecture=architecture,
        images=1,
        steps=0,
        learning_rate=None,
        seed=seed,
        differences=tuple(check_gradients(architecture, per_tensor=per_tensor, seed=seed)),
        memory=device.memory(),
    )


class VerificationSettings(Model):
    """The numbers that `compare` takes."""

    images: CheckedImages
    steps: CheckedSteps
    learning_rate: LearningRate
    seed: Seed


def compare(
    names: Iterable[str],
    dataset: Dataset,
    *,
    images: int = 100,
    steps: int = 20,
    batch_size: int | None = None,
    architecture: Architecture | None = None,
    learning_rate: float = 1e-3,
    seed: int = 0,
    device: str | KernelDevice = "auto",
) -> Iterator[VerificationRecord]:
    """Hold phases against the plain loops in float64: one pass, then some steps of training.

    All start from the same parameters and see the same images in the same order. Each phase does it
    twice, and must come to the same bits.

    Args:
        names: the phases to check.
        dataset: where the images come from.
        images: how many, from the first, in one batch; loss and gradients are of their mean.
        steps: of training.
        batch_size: images of such a step; by default what the phase is made for.
        architecture: the network; by default the book's, or `MINI` on the emulator.
        learning_rate: of those steps.
        seed: of the parameters.
        device: what runs the kernels of CUDA phases.

    Yields:
        A record a phase, in the order of `names`.

    Raises:
        ParameterError: `images`, `steps` or another number is out of range.
    """
    validated(
        VerificationSettings, images=images, steps=steps, learning_rate=learning_rate, seed=seed
    )

    pixels: dict[int, HostArray] = {}
    references: dict[tuple[Architecture, int], dict[str, npt.NDArray[Any]]] = {}
    for name in names:
        facts, opened = provenance.current(), phases.opened(name, device)
        network = architecture or default_architecture(opened)
        each_step = batch_size or phases.named(name).batch_size
        if network.height not in pixels:
            pixels[network.height] = normalise(dataset.train.images[:images], network.height)
        some = pixels[network.height]

        quantities = partial(_quantities, network, some, steps, each_step, learning_rate, seed)
        if (network, each_step) not in references:
            references[network, each_step] = quantities("cpu", opened, np.float64)
        expected = references[network, each_step]
        found, again = (quantities(name, opened, np.float32) for _ in range(2))
        tolerances = TOLERANCES[phases.named(name).precision]
        yield VerificationRecord(
            provenance=facts,
            dataset=dataset.identity,
            device=opened.name,
            device_kind=opened.kind,
            phase=name,
            precision=phases.named(name).precision,
            reference="the plain loops in float64",
            not_materialised=tuple(sorted(_outputs(network).keys() - found.keys())),
            architecture=network,
            images=images,
            steps=steps,
            batch_size=each_step,
            learning_rate=learning_rate,
            seed=seed,
            repeatable=all(np.array_equal(found[q], again[q], equal_nan=True) for q in found),
            differences=tuple(
                difference(quantity, found[quantity], expected[quantity], tolerances.of(quantity))
                for quantity in expected
                if quantity in found
            ),
            memory=opened.memory(),
        )


def verify(
    phase: str,
    dataset: Dataset,
    *,
    images: int = 100,
    steps: int = 20,
    seed: int = 0,
    device: str | KernelDevice = "auto",
) -> VerificationRecord:
    """Hold one phase against the plain loops in float64, as `compare` does; it must pass.

    Args:
        phase: the phase to check.
        dataset: where the images come from.
        images: how many, from the first, in one batch.
        steps: of training that are compared as well.
        seed: of the parameters.
        device: what runs the kernels of a CUDA phase.

    Raises:
        DisagreementError: a quantity is beyond its tolerance, or a second run gave other bits.
    """
    (record,) = compare([phase], dataset, images=images, steps=steps, seed=seed, device=device)
    failed = [d for d in record.differences if not d.passed]
    if failed:
        worst = max(failed, key=lambda d: d.relative / d.tolerance)
        raise DisagreementError(
            f"{phase}: expected {worst.quantity} within {small(worst.tolerance, 0)} of "
            f"{record.reference}, found {small(worst.relative)}; "
            f"{len(failed)} of {len(record.differences)} quantities are beyond their tolerance: "
            f"{', '.join(d.quantity for d in failed)}"
        )
    if not record.repeatable:
        raise DisagreementError(f"{phase}: expected the same bits from a second run, found others")
    return record


def _quantities(
    network: Architecture,
    images: HostArray,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    phase: str,
    device: Device,
    dtype: npt.DTypeLike,
) -> dict[str, npt.NDArray[Any]]:
    """All that is compared, of one phase from the initial parameters on."""
    where = cast(KernelDevice, device)
    whole = phases.create(phase, network, len(images), where, dtype=dtype)
    trained = phases.create(phase, network, batch_size, where, dtype=dtype)
    found = _one_pass(Autoencoder(whole, seed=seed), images)
    return found | _some_steps(Autoencoder(trained, seed=seed), images, steps, learning_rate)


def _one_pass(autoencoder: Autoencoder, images: HostArray) -> dict[str, npt.NDArray[Any]]:
    """What a pass over one batch computes, from buffers that were poisoned before.

    Outputs that the plan does not materialise are left out.
    """
    plan, device = autoencoder.plan, autoencoder.device
    autoencoder.poison()
    _, gradients = autoencoder.gradients(images)
    found: dict[str, npt.NDArray[Any]] = {
        quantity: plan.activation(layer)
        for quantity, layer in _outputs(plan.architecture).items()
        if layer not in plan.not_materialised
    }
    found["loss of each image"] = device.download(plan.loss[: len(images)])
    return found | {f"gradient of {name}": gradient for name, gradient in gradients.items()}


def _some_steps(
    autoencoder: Autoencoder, images: HostArray, steps: int, learning_rate: float
) -> dict[str, npt.NDArray[Any]]:
    """Losses and parameters of `steps` training steps, each on the next images in turn."""
    if not steps:
        return {}
    feed = Feed(autoencoder.device, images, steps * autoencoder.batch_size, autoencoder.plan.dtype)
    autoencoder.take_from(feed)
    autoencoder.learning_rate = learning_rate
    autoencoder.poison()
    for _ in range(steps):
        autoencoder.step()
    found: dict[str, npt.NDArray[Any]] = {f"after {steps} steps: losses": feed.read_losses()}
    return found | {f"after {steps} steps: {n}": t for n, t in autoencoder.parameters().items()}


def _outputs(architecture: Architecture) -> dict[str, str]:
    """The outputs that are compared, by what a record calls them: which layer's they are."""
    return {"latent": architecture.latent.name, "reconstruction": architecture.layers[-1].name}
