"""The autoencoder that trainers, verifiers, profilers and notebooks hold, over any phase's plan."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ae_core.architecture import MINI, Architecture
from ae_core.devices.device import Device
from ae_core.devices.kernel_device import KernelDevice
from ae_core.errors import InputError
from ae_core.phases.feed import Feed
from ae_core.phases.plan import Plan, Step

HostArray = npt.NDArray[Any]


class Autoencoder:
    """A network that a plan computes: its parameters, its passes, its training step.

    Methods that take and return host arrays are for people and tests. `step` is what training
    repeats; its images come from a feed on the device, and it neither allocates nor copies between
    host and device.

    Args:
        plan: of a phase, from `ae_core.phases.create`.
        seed: where the initial parameters come from (`Architecture.initial_parameters`).
        initial_scale: how large they are, likewise.
        graph: queue each training step as one CUDA graph instead of step by step.
        exchange: steps between gradients and update: several GPUs make one mean of theirs.

    Raises:
        InputError: `graph`, and the phase can't.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        seed: int = 0,
        initial_scale: float = 1.0,
        graph: bool = False,
        exchange: Sequence[Step] = (),
    ) -> None:
        if graph and not plan.capturable:
            raise InputError(
                f"graph: expected a phase whose steps can be captured, found {plan.name}"
            )
        self.plan = plan
        self.device: Device = plan.device
        self.architecture: Architecture = plan.architecture
        self.batch_size = plan.batch_size
        self.exchange = tuple(exchange)
        self._graph = graph
        self._queued: dict[int, Callable[[], None]] = {}
        self._feed: Feed | None = None
        self._rate: float | None = None
        self.learning_rate = 0.0
        initial = self.architecture.initial_parameters(seed, initial_scale)
        self.device.upload(initial.astype(plan.dtype), plan.parameters)
        plan.refresh()

    @property
    def learning_rate(self) -> float:
        """Of the update: a number on the device, so that a change costs one small copy."""
        return self._rate or 0.0

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        if rate != self._rate:
            self.device.upload(np.array([rate], self.plan.dtype), self.plan.learning_rate)
            self._rate = rate

    def take_from(self, feed: Feed) -> None:
        """Take the images of training steps from this feed, from now on.

        Raises:
            InputError: its images have another shape, or its losses another dtype than the plan's.
        """
        image = self.architecture.layers[0].output
        if feed.pixels.shape[1:] != image:
            raise InputError(f"feed: expected images {image}, found {feed.pixels.shape[1:]}")
        if feed.losses.dtype != self.plan.dtype:
            raise InputError(
                f"feed: expected losses of {self.plan.dtype}, found {feed.losses.dtype}: "
                f"Feed(..., dtype={self.plan.dtype})"
            )
        self.plan.take_from(feed)
        self._feed = feed
        self._queued.clear()

    def steps(self, images: int) -> tuple[Step, ...]:
        """All that a training step on so many images queues, in order."""
        plan = self.plan
        plan.set_batch(images)
        return (*plan.fetch, *plan.differentiate, *self.exchange, *plan.update, *plan.advance)

    def step(self, images: int | None = None) -> None:
        """One step of gradient descent on the mean reconstruction error of the feed's next images.

        Steps of a size that was taken before are queued without asking the plan: read nothing of
        its activations behind them.

        Args:
            images: how many; a full batch by default.

        Raises:
            InputError: there is no feed; or more images than a batch.
        """
        count = self.batch_size if images is None else images
        queue = self._queued.get(count) or self._prepared(count)
        cast(Feed, self._feed).prepare(count)
        queue()

    def warm_up(self) -> None:
        """Run every step of a training step once and change no parameter.

        What happens only the first time (compiling, loading, touching memory) is then done; also
        capturing, for full batches. A feed, if there is one, is at its beginning afterwards.
        """
        rate, self.learning_rate = self.learning_rate, 0.0
        feed = self._feed
        if feed is None:
            self.plan.set_batch(self.batch_size)
            image = self.architecture.layers[0].output
            self.plan.set_images(np.zeros((self.batch_size, *image), self.plan.dtype))
            for step in (*self.plan.differentiate, *self.exchange, *self.plan.update):
                step.run()
        else:
            count = min(self.batch_size, feed.length)
            feed.rewind()
            feed.prepare(count)
            for step in self.steps(count):
                step.run()
            self._prepared(count)
            feed.rewind()
        self.device.synchronize()
        self.learning_rate = rate

    def encode(self, images: HostArray) -> HostArray:
        """Latent features `(N, latent_features)` of host images, any number of them."""
        features = np.empty((len(images), self.architecture.latent_features), self.plan.dtype)
        for rows in self._batches(images):
            _run(self.plan.encode)
            latent = self.plan.activation(self.architecture.latent.name)
            features[rows] = latent.reshape(len(latent), -1)
        return features

    def reconstruct(self, images: HostArray) -> HostArray:
        """Reconstructions `(N, C, H, W)` of host images, any number; not clipped to [0, 1]."""
        output = self.architecture.layers[-1]
        reconstructions = np.empty((len(images), *output.output), self.plan.dtype)
        for rows in self._batches(images):
            _run(self.plan.evaluate)
            reconstructions[rows] = self.plan.activation(output.name)
        return reconstructions

    def errors(
        self, images: HostArray, progress: Callable[[int], object] | None = None
    ) -> HostArray:
        """Mean squared error `(N,)` of each host image's reconstruction.

        Args:
            images: any number, `(N, C, H, W)`.
            progress: called with the number of images done since its last call.
        """
        errors = np.empty(len(images), self.plan.dtype)
        for rows in self._batches(images):
            _run(self.plan.evaluate)
            errors[rows] = self._losses(rows.stop - rows.start)
            if progress:
                progress(rows.stop - rows.start)
        return errors

    def gradients(self, images: HostArray) -> tuple[float, dict[str, HostArray]]:
        """Mean loss over a batch of host images, and the gradient of every parameter tensor.

        Keys are those of `parameters`.

        Raises:
            InputError: more images than a batch.
        """
        self._refuse_wrong(images)
        self.plan.set_batch(len(images))
        self.plan.set_images(images)
        _run(self.plan.differentiate)
        gradients = self.architecture.views(self.device.download(self.plan.gradients))
        return float(self._losses(len(images)).mean()), gradients

    def parameters(self) -> dict[str, HostArray]:
        """Host copies of all parameters: `conv1.weights` `(256, 3, 3, 3)`, `conv1.biases`, ..."""
        return self.architecture.views(self.device.download(self.plan.parameters))

    def digest(self) -> str:
        """SHA-256 of all parameters: which network this is, by its bits."""
        return hashlib.sha256(self.device.download(self.plan.parameters).tobytes()).hexdigest()

    def load_parameters(self, parameters: Mapping[str, HostArray]) -> None:
        """Replace all parameters.

        Raises:
            InputError: a tensor is missing, unknown, or has another shape or a NaN.
        """
        buffer = np.empty(self.architecture.parameter_count, self.plan.dtype)
        expected = {spec.name: spec for spec in self.architecture.parameters}
        for what, names in (
            ("missing", expected.keys() - parameters.keys()),
            ("unknown", parameters.keys() - expected.keys()),
        ):
            if names:
                raise InputError(f"parameters: {what} {', '.join(sorted(names))}")
        for name, spec in expected.items():
            tensor = parameters[name]
            if tensor.shape != spec.shape:
                raise InputError(f"{name}: expected shape {spec.shape}, found {tensor.shape}")
            if not np.isfinite(tensor).all():
                raise InputError(f"{name}: expected finite numbers, found NaN or infinity")
            buffer[spec.elements] = tensor.ravel()
        self.device.upload(buffer, self.plan.parameters)
        self.plan.refresh()

    def poison(self) -> None:
        """Fill every activation and gradient with NaN, so that an element left unwritten shows."""
        for buffer in self.plan.buffers():
            self.device.upload(np.full(buffer.shape, np.nan, buffer.dtype), buffer)

    def _prepared(self, images: int) -> Callable[[], None]:
        """A function that queues a training step on so many images; kept from then on."""
        if not self._feed:
            raise InputError(
                "step: expected a feed to take images from, found none: take_from(...)"
            )
        runs = [step.run for step in self.steps(images)]

        def queue() -> None:
            for run in runs:
                run()

        if self._graph:
            queue = cast(KernelDevice, self.device).capture(queue)
        self._queued[images] = queue
        return queue

    def _batches(self, images: HostArray) -> Iterator[slice]:
        """Make host images the plan's batch, part by part; yield the part that is in."""
        self._refuse_wrong(images[: self.batch_size])
        for start in range(0, len(images), self.batch_size):
            rows = slice(start, min(start + self.batch_size, len(images)))
            self.plan.set_batch(rows.stop - rows.start)
            self.plan.set_images(images[rows])
            yield rows

    def _losses(self, images: int) -> HostArray:
        return self.device.download(self.plan.loss[:images])

    def _refuse_wrong(self, images: HostArray) -> None:
        image = self.architecture.layers[0].output
        if images.shape[1:] != image:
            raise InputError(
                f"images: expected (N, {', '.join(map(str, image))}), found {images.shape}"
            )


def _run(steps: Sequence[Step]) -> None:
    for step in steps:
        step.run()


def default_architecture(device: Device) -> Architecture:
    """The book's network, or the small one where the book's would take too long: the emulator."""
    return MINI if device.kind == "emulator" else Architecture()
