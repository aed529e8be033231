"""The same network in PyTorch: the yardstick beside every claim of speed (extra `[peer]`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ae_core.architecture import Architecture
from ae_core.profiling import LEARNING_RATE, measure, summary
from ae_core.records import StepTime


def network(architecture: Architecture, seed: int = 0) -> Any:
    """The architecture as a `torch.nn.Sequential` with this book's initial parameters.

    Raises:
        ImportError: PyTorch is not installed; says how to install it.
    """
    torch = _torch()
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
    torch = _torch()
    torch.set_num_threads(threads)
    model = network(architecture or Architecture())
    optimiser = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    batches = torch.from_numpy(images).split(batch_size)
    turn = iter(range(10**9))

    def step() -> None:
        batch = batches[next(turn) % len(batches)]
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(model(batch), batch).backward()
        optimiser.step()

    seconds = measure(step, steps, warmup, lambda: None)
    return summary("PyTorch, CPU", threads, batch_size, seconds)


def _torch() -> Any:
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        raise ImportError(
            "PyTorch is not installed: expected the extra [peer]: pip install 'ae-core[peer]'"
        ) from None
    return torch
