"""The same network in PyTorch: the yardstick beside every claim of speed (extra `[peer]`)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_core.architecture import Architecture
from ae_core.device import Host
from ae_core.records import StepTime
from ae_core.timing import LEARNING_RATE, Clock, affordable, distribution, measure

WARMUP = 5


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
    threads: int,
    steps: int | None,
    budget: float,
    batch_size: int = 1,
) -> StepTime:
    """Time PyTorch's training step on the CPU: float32, the given number of threads, eager SGD.

    `steps` and `budget` are those of `timing.time_steps`.
    """
    torch = require()
    torch.set_num_threads(threads)
    step = _eager_step(torch, images, batch_size, "cpu")
    host = Host()
    return _timed("PyTorch", host.name, host, step, threads, steps, budget, batch_size)


def time_gpu_steps(
    images: npt.NDArray[np.float32],
    graph: bool,
    steps: int | None,
    budget: float,
    batch_size: int = 1,
) -> StepTime:
    """Time PyTorch's training step on the GPU: float32 throughout (no TF32), cuDNN's best kernels.

    `steps` and `budget` are those of `timing.time_steps`; `graph` makes the step a CUDA graph.
    """
    torch = require()
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    name = "PyTorch, graph" if graph else "PyTorch"
    if graph:
        step = _graphed_step(torch, images, batch_size)
    else:
        step = _eager_step(torch, images, batch_size, "cuda")
    card = torch.cuda.get_device_name()
    return _timed(name, card, _CudaEvents(torch), step, 1, steps, budget, batch_size)


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


class _CudaEvents:
    """PyTorch's events on its current stream, as a clock."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch

    def synchronize(self) -> None:
        self._torch.cuda.synchronize()

    def mark(self) -> Any:
        event = self._torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end)) / 1e3


def _timed(
    name: str,
    device: str,
    clock: Clock,
    step: Callable[[], object],
    threads: int,
    steps: int | None,
    budget: float,
    batch_size: int,
) -> StepTime:
    count = steps or affordable(step, clock, budget, batch_size)
    seconds = measure(step, count, WARMUP, clock)
    return StepTime(
        name=name,
        peer=True,
        device=device,
        threads=threads,
        batch_size=batch_size,
        n=count,
        **distribution(seconds),
        total=sum(seconds),
    )


def _batches(torch: Any, images: npt.NDArray[np.float32], batch_size: int, device: str) -> Any:
    full = len(images) // batch_size * batch_size
    return cycle(torch.from_numpy(images[:full]).to(device).split(batch_size))


def _eager_step(
    torch: Any, images: npt.NDArray[np.float32], batch_size: int, device: str
) -> Callable[[], None]:
    model = network(Architecture()).to(device)
    optimiser = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    batches = _batches(torch, images, batch_size, device)

    def step() -> None:
        batch = next(batches)
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(model(batch), batch).backward()
        optimiser.step()

    return step


def _graphed_step(
    torch: Any, images: npt.NDArray[np.float32], batch_size: int
) -> Callable[[], None]:
    """The whole step as one graph, which reads its batch from a fixed slot."""
    model = network(Architecture()).cuda()
    optimiser = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    batches = _batches(torch, images, batch_size, "cuda")
    slot = next(batches).clone()

    def work() -> None:
        optimiser.zero_grad(set_to_none=False)
        torch.nn.functional.mse_loss(model(slot), slot).backward()
        optimiser.step()

    side = torch.cuda.Stream()  # warm up beside the current stream, as capturing asks for
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUP):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()

    def step() -> None:
        slot.copy_(next(batches))
        graph.replay()

    return step
