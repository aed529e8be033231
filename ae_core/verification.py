"""Proof that a phase computes what it should: by difference quotients, and against the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ae_core import phases, provenance
from ae_core.architecture import Architecture
from ae_core.autoencoder import Autoencoder
from ae_core.records import Difference, VerificationRecord

HostArray = npt.NDArray[np.floating]

FINITE_DIFFERENCE_TOLERANCE = 1e-5
"""Central differences in float64 with steps of 1e-5 err by about 1e-9 of the gradient's size,
unless a step crosses a kink of ReLU or pooling; 1e-5 leaves room for one such element."""
ONE_PASS_TOLERANCE = 1e-5
"""Float32 rounds by 6e-8; sums of at most 25,600 terms in another order stay well below this."""
STEPS_TOLERANCE = 1e-4
"""Rounding grows from step to step as parameters drift apart: an order of magnitude in 20."""

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
    step: float = 1e-5,
) -> list[Difference]:
    """A CPU phase's gradients against central differences, all in float64.

    Covers every parameter tensor and the image (with the target held fixed).

    Args:
        architecture: the network to check.
        phase: which loops: `cpu` or `cpu-parallel`.
        per_tensor: how many random elements of each tensor; all of them by default.
        seed: of the image, the parameters and the choice of elements.
        step: of the difference quotient.
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

    def quotient(tensor: HostArray, element: int) -> float:
        kept = tensor.flat[element]
        losses = []
        for moved in (kept - step, kept + step):
            tensor.flat[element] = moved
            autoencoder.load_parameters(parameters)
            losses.append(np.square(autoencoder.reconstruct(image) - target).mean())
        tensor.flat[element] = kept
        return float(losses[1] - losses[0]) / (2 * step)

    found = []
    for name, gradient in gradients.items():
        tensor = image if name == "image" else parameters[name]
        elements = random.permutation(tensor.size)[:per_tensor]
        quotients = [quotient(tensor, int(element)) for element in elements]
        found.append(
            difference(name, gradient.flat[elements], quotients, FINITE_DIFFERENCE_TOLERANCE)
        )
    return found


def compare(
    phase: str,
    images: HostArray,
    *,
    reference: str = "cpu",
    architecture: Architecture | None = None,
    steps: int = 20,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> VerificationRecord:
    """Hold a phase against the plain loops: one pass over `images`, then `steps` of training.

    Args:
        phase: the phase to check.
        images: `(N, C, H, W)` float32 in [0, 1]; the loss and gradients are those of their mean.
        reference: the phase to believe.
        architecture: the network; the book's by default.
        steps: of training, one image each, from the same parameters in the same order.
        learning_rate: of those steps.
        seed: of the parameters.
    """
    architecture = architecture or Architecture()
    results = [
        dict(_quantities(name, images, architecture, steps, learning_rate, seed))
        for name in (phase, reference)
    ]
    found, expected = results
    return VerificationRecord(
        provenance=provenance.current(),
        phase=phase,
        reference=reference,
        architecture=architecture,
        images=len(images),
        steps=steps,
        differences=tuple(
            difference(
                name,
                found[name],
                expected[name],
                STEPS_TOLERANCE if name.startswith("after") else ONE_PASS_TOLERANCE,
            )
            for name in expected
        ),
    )


def _quantities(
    phase: str,
    images: HostArray,
    architecture: Architecture,
    steps: int,
    learning_rate: float,
    seed: int,
) -> Iterator[tuple[str, npt.ArrayLike]]:
    """Everything that two phases must agree on, by name."""
    operations = phases.create(phase)
    autoencoder = Autoencoder(operations, architecture, seed=seed, batch_size=len(images))
    yield "latent", autoencoder.encode(images)
    yield "reconstruction", autoencoder.reconstruct(images)
    yield "loss of each image", autoencoder.errors(images)
    _, gradients = autoencoder.gradients(images)
    for name, gradient in gradients.items():
        yield f"gradient of {name}", gradient

    if not steps:
        return
    autoencoder = Autoencoder(operations, architecture, seed=seed)
    device = autoencoder.device
    image, losses = device.empty((1, *images.shape[1:])), device.empty((steps,))
    for step in range(steps):
        device.upload(images[step % len(images)][None], image)
        autoencoder.step(image, learning_rate, losses[step : step + 1])
    yield f"after {steps} steps: losses", device.download(losses)
    for name, tensor in autoencoder.parameters().items():
        yield f"after {steps} steps: {name}", tensor
