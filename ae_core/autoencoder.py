"""The autoencoder that trainers, verifiers, profilers and notebooks use, over any phase."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ae_core.architecture import MINI, Architecture
from ae_core.devices.device import Array, Device
from ae_core.devices.kernel_device import KernelDevice
from ae_core.errors import InputError
from ae_core.phases import Operations
from ae_core.phases.layers import Conv2D, Input, Layer, MaxPool2D, ReLU, UpSample2D

HostArray = npt.NDArray[Any]


class Autoencoder:
    """The network of `architecture`, computed by one phase's operations.

    Parameters and gradients each live in one contiguous device buffer. Methods that take and
    return host arrays are for people and tests; `step` is what training repeats, on device arrays,
    and neither allocates nor copies between host and device.

    Args:
        operations: the phase, from `ae_core.phases.create`.
        architecture: the network; the book's by default.
        batch_size: the largest number of images in one pass; memory grows with it.
        seed: where the initial parameters come from (`Architecture.initial_parameters`).
        initial_scale: how large they are, likewise.
        dtype: float32, or float64 for gradient checks on the CPU.
        image_gradient: also compute the gradient with respect to the images, for checks.
        graph: queue each training step as one CUDA graph instead of launch by launch.

    Raises:
        InputError: `graph`, and the phase can't; or a batch of less than one image.
    """

    def __init__(
        self,
        operations: Operations,
        architecture: Architecture | None = None,
        *,
        batch_size: int = 1,
        seed: int = 0,
        initial_scale: float = 1.0,
        dtype: npt.DTypeLike = np.float32,
        image_gradient: bool = False,
        graph: bool = False,
    ) -> None:
        if graph and not operations.capturable:
            found = type(operations).__name__
            raise InputError(f"graph: expected a phase whose steps can be captured, found {found}")
        if batch_size < 1:
            raise InputError(f"batch_size: expected a whole number from 1, found {batch_size}")
        self.operations = operations
        self.device = operations.device
        self.architecture = architecture or Architecture()
        self.batch_size = batch_size
        self.dtype = np.dtype(dtype)
        self.layers = self._chain(image_gradient)
        self.input: Input = self.layers[0]  # type: ignore[assignment]
        self.latent = next(a for a in self.layers if a.name == self.architecture.latent.name)
        self.output = self.layers[-1]

        empty = self.device.empty
        self._parameters = empty((self.architecture.parameter_count,), self.dtype)
        self._gradients = empty((self.architecture.parameter_count,), self.dtype)
        self._share_buffers()
        parameters = self.architecture.initial_parameters(seed, initial_scale)
        self.device.upload(parameters.astype(self.dtype), self._parameters)
        image = self.input.dimension
        self._images = empty((batch_size, *image), self.dtype)
        self._output_gradient = empty((batch_size, *image), self.dtype)
        self.loss = empty((batch_size,), self.dtype)
        """Each image's mean squared error `(batch_size,)`, as `gradients` or `errors` left it."""
        self._batch = batch_size
        self._graph = graph
        self._graphs: dict[int, tuple[float, Callable[[], None]]] = {}

    def step(self, images: Array, learning_rate: float, loss: Array) -> None:
        """One step of gradient descent on the mean reconstruction error of a batch.

        Args:
            images: device array `(N, C, H, W)`, N at most `batch_size`; also the target.
            learning_rate: of plain SGD.
            loss: device array `(N,)`, receives each image's mean squared error before the update.
        """
        if self._graph:
            rows = slice(len(images))
            self._enter(images)
            self.device.copy(images, self._images[rows])
            self._captured_step(len(images), learning_rate)()
            self.device.copy(self.loss[rows], loss)
        else:
            self._descend(images, learning_rate, loss)

    def warm_up(self, learning_rate: float = 0.0) -> None:
        """Run every operation of a step once and change no parameter.

        What happens only the first time (compiling, loading, touching memory) is then done; also
        capturing, for full batches and this learning rate, which a graph keeps.
        """
        nothing = np.zeros((self.batch_size, *self.input.dimension), self.dtype)
        self.device.upload(nothing, self._images)
        self._descend(self._images, 0.0, self.loss)
        if self._graph:
            self._captured_step(self.batch_size, learning_rate)
        self.device.synchronize()

    def encode(self, images: HostArray) -> HostArray:
        """Latent features `(N, latent_features)` of host images, any number of them."""
        features = np.empty((len(images), self.architecture.latent_features), self.dtype)
        for rows in self._batches(images):
            features[rows] = self.device.download(self.latent.forward()).reshape(
                -1, self.architecture.latent_features
            )
        return features

    def reconstruct(self, images: HostArray) -> HostArray:
        """Reconstructions `(N, C, H, W)` of host images, any number; not clipped to [0, 1]."""
        reconstructions = np.empty((len(images), *self.input.dimension), self.dtype)
        for rows in self._batches(images):
            reconstructions[rows] = self.device.download(self.output.forward())
        return reconstructions

    def errors(
        self, images: HostArray, progress: Callable[[int], object] | None = None
    ) -> HostArray:
        """Mean squared error `(N,)` of each host image's reconstruction.

        Args:
            images: any number, `(N, C, H, W)`.
            progress: called with the number of images done since its last call.
        """
        errors = np.empty(len(images), self.dtype)
        for rows in self._batches(images):
            batch = self._batch
            self.operations.mse(
                self.output.forward(),
                self.input.output,
                self._output_gradient[:batch],
                self.loss[:batch],
            )
            errors[rows] = self.device.download(self.loss[:batch])
            if progress:
                progress(batch)
        return errors

    def gradients(self, images: HostArray) -> tuple[float, dict[str, HostArray]]:
        """Mean loss over a batch of host images, and the gradient of every parameter tensor.

        Keys are those of `parameters`, and `image` if `image_gradient` was asked for.
        """
        (rows,) = self._batches(images)
        self._differentiate(self.input.output, self.loss[rows])
        found = self._tensors(self.device.download(self._gradients))
        if self.input.needs_gradient:
            found["image"] = self.device.download(self.input.gradient)
        return float(self.device.download(self.loss[rows]).mean()), found

    def parameters(self) -> dict[str, HostArray]:
        """Host copies of all parameters: `conv1.weights` `(256, 3, 3, 3)`, `conv1.biases`, ..."""
        return self._tensors(self.device.download(self._parameters))

    def digest(self) -> str:
        """SHA-256 of all parameters: which network this is, by its bits."""
        return hashlib.sha256(self.device.download(self._parameters).tobytes()).hexdigest()

    def load_parameters(self, parameters: Mapping[str, HostArray]) -> None:
        """Replace all parameters.

        Raises:
            InputError: a tensor is missing, unknown, or has another shape or a NaN.
        """
        buffer = np.empty(self.architecture.parameter_count, self.dtype)
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
        self.device.upload(buffer, self._parameters)

    def poison(self) -> None:
        """Fill every activation and gradient with NaN, so that an element left unwritten shows."""
        buffers = [self._gradients, self._output_gradient, self.loss]
        for buffer in [*buffers, *(b for layer in self.layers for b in layer.buffers)]:
            self.device.upload(np.full(buffer.shape, np.nan, self.dtype), buffer)

    def _descend(self, images: Array, learning_rate: float, loss: Array) -> None:
        self._differentiate(images, loss)
        self.operations.sgd(self._parameters, self._gradients, learning_rate)

    def _captured_step(self, batch: int, learning_rate: float) -> Callable[[], None]:
        """The step as a graph: with fixed slots for images and loss, and the rate in it."""
        rate, replay = self._graphs.get(batch, (None, None))
        if replay is None or rate != learning_rate:
            rows = slice(batch)
            replay = cast(KernelDevice, self.device).capture(
                lambda: self._descend(self._images[rows], learning_rate, self.loss[rows])
            )
            self._graphs[batch] = (learning_rate, replay)
        return replay

    def _differentiate(self, images: Array, loss: Array) -> None:
        self._enter(images)
        output_gradient = self._output_gradient
        if len(images) < self.batch_size:
            output_gradient = output_gradient[: len(images)]
        self.operations.mse(self.output.forward(), images, output_gradient, loss)
        self.output.backward(output_gradient)

    def _enter(self, images: Array) -> None:
        """Make `images` the current batch; only a batch of another size costs more than that."""
        self.input.set_images(images)
        if len(images) != self._batch:
            self._batch = len(images)
            for layer in self.layers:
                layer.set_batch(self._batch)

    def _chain(self, image_gradient: bool) -> list[Layer]:
        _, *specs = self.architecture.layers
        image = self.architecture.layers[0].output
        layer: Layer = Input(self.operations, image, self.batch_size, self.dtype, image_gradient)
        layers = [layer]
        for spec in specs:
            match spec.kind:
                case "conv":
                    layer = Conv2D(layer, spec.name, filters=spec.output[0])
                case "relu":
                    layer = ReLU(layer, spec.name)
                case "pool":
                    layer = MaxPool2D(layer, spec.name)
                case "upsample":
                    layer = UpSample2D(layer, spec.name)
            layers.append(layer)
        return layers

    def _share_buffers(self) -> None:
        parameters, gradients = self._tensors(self._parameters), self._tensors(self._gradients)
        for layer in self.layers:
            names = [name for name in parameters if name.startswith(f"{layer.name}.")]
            layer.set_params(
                {name.split(".")[1]: parameters[name] for name in names},
                {name.split(".")[1]: gradients[name] for name in names},
            )

    def _tensors(self, buffer: Array) -> dict[str, Array]:
        return {
            spec.name: buffer[spec.elements].reshape(spec.shape)
            for spec in self.architecture.parameters
        }

    def _batches(self, images: HostArray) -> Any:
        """Upload host images batch by batch; yield the slice of `images` that is in."""
        for start in range(0, len(images), self.batch_size):
            rows = slice(start, min(start + self.batch_size, len(images)))
            batch = self._images[: rows.stop - rows.start]
            self.device.upload(np.ascontiguousarray(images[rows], self.dtype), batch)
            self._enter(batch)
            yield rows


def default_architecture(device: Device) -> Architecture:
    """The book's network, or the small one where the book's would take too long: the emulator."""
    return MINI if device.kind == "emulator" else Architecture()
