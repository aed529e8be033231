"""Proof that a phase computes what it should: by difference quotients, and against the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_core import phases
from ae_core.architecture import Architecture
from ae_core.autoencoder import Autoencoder, default_architecture
from ae_core.data.cifar10 import Dataset, normalise
from ae_core.devices.device import Host
from ae_core.devices.kernel_device import KernelDevice
from ae_core.parameters import CheckedImages, CheckedSteps, LearningRate, Seed, validated
from ae_core.phases import Operations
from ae_core.records import Difference, VerificationRecord, provenance
from ae_core.records.base import Model

HostArray = npt.NDArray[np.floating]

FINITE_DIFFERENCE_TOLERANCE = 1e-5
"""Central differences in float64 err by about 1e-8 of the gradient's norm."""
FINITE_DIFFERENCE_STEPS = (1e-6, 1e-8)
"""The second is for elements whose first step crosses a kink of ReLU or pooling, where the quotient
is the mean of two slopes. A gradient that is wrong disagrees with both."""
FORWARD_TOLERANCE = 1e-5
"""Float32 rounds by 6e-8; sums of 2,304 products in sequence err by about 1e-6 of their norm."""
GRADIENT_TOLERANCE = 1e-4
"""Where two values of a pooling window, or a value and zero, are closer than rounding, another one
wins and its gradient takes another way: about 2e-5 of the norm of conv1's gradient."""
WEIGHTS_TOLERANCE = 1e-5
"""After some steps: most of a weight is still its initial value, which is the same to the bit."""
BIASES_TOLERANCE = 2e-3
"""After some steps: biases start at zero and are sums of cancelling gradients, whose rounding
stands out: about 6e-4 of their norm for the plain loops in float32."""
LOSSES_TOLERANCE = 1e-4
"""Of successive steps: rounding carries over from one to the next."""

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
    autoencoder = Autoencoder(
        phases.create(phase), architecture, seed=seed, dtype=np.float64, image_gradient=True
    )
    image = random.random((1, *autoencoder.input.dimension))
    target = image.copy()
    parameters = autoencoder.parameters()
    for name, tensor in parameters.items():
        if name.endswith("biases"):  # away from zero, so that they matter
            tensor[:] = random.normal(0, 0.1, tensor.shape)
    autoencoder.load_parameters(parameters)
    _, gradients = autoencoder.gradients(image)

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
        steps: of training, one image each.
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

    def quantities(
        operations: Operations, network: Architecture, dtype: npt.DTypeLike
    ) -> dict[str, npt.NDArray[Any]]:
        pixels = normalise(dataset.train.images[:images], network.height)
        one = Autoencoder(operations, network, seed=seed, dtype=dtype, batch_size=len(pixels))
        some = Autoencoder(operations, network, seed=seed, dtype=dtype)
        return _one_pass(one, pixels) | _some_steps(some, pixels, steps, learning_rate)

    references: dict[Architecture, dict[str, npt.NDArray[Any]]] = {}
    for name in names:
        facts, operations = provenance.current(), phases.create(name, device)
        network = architecture or default_architecture(operations.device)
        if network not in references:
            references[network] = quantities(phases.create("cpu"), network, np.float64)
        expected = references[network]
        found = quantities(operations, network, np.float32)
        again = quantities(operations, network, np.float32)
        yield VerificationRecord(
            provenance=facts,
            dataset=dataset.identity,
            device=operations.device.name,
            phase=name,
            reference="the plain loops in float64",
            architecture=network,
            images=images,
            steps=steps,
            learning_rate=learning_rate,
            seed=seed,
            repeatable=all(np.array_equal(found[q], again[q], equal_nan=True) for q in found),
            differences=tuple(
                difference(quantity, found[quantity], expected[quantity], _tolerance(quantity))
                for quantity in expected
            ),
            memory=operations.device.memory(),
        )


def _tolerance(quantity: str) -> float:
    if quantity.startswith("gradient"):
        return GRADIENT_TOLERANCE
    if not quantity.startswith("after"):
        return FORWARD_TOLERANCE
    if quantity.endswith("weights"):
        return WEIGHTS_TOLERANCE
    return BIASES_TOLERANCE if quantity.endswith("biases") else LOSSES_TOLERANCE


def _one_pass(autoencoder: Autoencoder, images: HostArray) -> dict[str, npt.NDArray[Any]]:
    """What a pass over one batch computes, from buffers that were poisoned before."""
    autoencoder.poison()
    _, gradients = autoencoder.gradients(images)
    forward = {
        "latent": autoencoder.latent.output,
        "reconstruction": autoencoder.output.output,
        "loss of each image": autoencoder.loss,
    }
    found: dict[str, npt.NDArray[Any]] = {
        name: autoencoder.device.download(array) for name, array in forward.items()
    }
    return found | {f"gradient of {name}": gradient for name, gradient in gradients.items()}


def _some_steps(
    autoencoder: Autoencoder, images: HostArray, steps: int, learning_rate: float
) -> dict[str, npt.NDArray[Any]]:
    """Losses and parameters of `steps` training steps, one image each."""
    if not steps:
        return {}
    device, dtype = autoencoder.device, autoencoder.dtype
    image, losses = device.empty((1, *images.shape[1:]), dtype), device.empty((steps,), dtype)
    autoencoder.poison()
    for step in range(steps):
        device.upload(images[step % len(images)][None].astype(dtype), image)
        autoencoder.step(image, learning_rate, losses[step : step + 1])
    found: dict[str, npt.NDArray[Any]] = {f"after {steps} steps: losses": device.download(losses)}
    return found | {f"after {steps} steps: {n}": t for n, t in autoencoder.parameters().items()}
