"""The same network in PyTorch: the yardstick beside every claim of speed (extra `[peer]`)."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_core.architecture import Architecture
from ae_core.machine import cpu_model
from ae_core.profiling import LEARNING_RATE, deciles, measure
from ae_core.records import StepTime


def network(architecture: Architecture, seed: int = 0) -> Any:
    """The architecture as a `torch.nn.Sequential` with this book's initial parameters.

    Raises:
        ImportError: PyTorch is not installed; says how to install it.
    """
    torch = require()
    nn = torch.nn
    modules: list[Any] = []
    for layer in architecture.layers[1:]:
        match layer.kind:
            case "conv":
                modules.append(nn.Conv2d(layer.input[0], layer.output[0], 3, padding=1))
            case "relu":
                modules.append(nn.ReLU())
            case "pool":
                modules.append(nn.MaxPool2d(2))
            case "upsample":
                modules.append(nn.Upsample(scale_factor=2))
    model = nn.Sequential(*modules)
    buffer = architecture.initial_parameters(seed)
    with torch.no_grad():
        for spec, parameter in zip(architecture.parameters, model.parameters(), strict=True):
            parameter.copy_(torch.from_numpy(buffer[spec.elements].reshape(spec.shape)))
    return model


def time_cpu_steps(
    images: npt.NDArray[np.float32],
    *,
    threads: int,
    steps: int,
    warmup: int = 5,
    architecture: Architecture | None = None,
    batch_size: int = 1,
) -> StepTime:
    """Time PyTorch's training step on the CPU: float32, the given number of threads, eager SGD."""
    torch = require()
    torch.set_num_threads(threads)
    model = network(architecture or Architecture())
    optimiser = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    full = len(images) // batch_size * batch_size
    batches = cycle(torch.from_numpy(images[:full]).split(batch_size))

    def step() -> None:
        batch = next(batches)
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(model(batch), batch).backward()
        optimiser.step()

    return StepTime(
        name="PyTorch",
        peer=True,
        device=cpu_model(),
        threads=threads,
        batch_size=batch_size,
        n=steps,
        **deciles(measure(step, steps, warmup, lambda: None)),
    )


def available() -> bool:
    """Whether PyTorch is installed."""
    return find_spec("torch") is not None


def require() -> Any:
    """The module `torch`.

    Raises:
        ImportError: it is not installed; says how to install it.
    """
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        raise ImportError(
            "PyTorch is not installed, expected the extra [peer]: from the checkout, "
            ".venv/bin/pip install --editable '.[peer]'"
        ) from None
    return torch
