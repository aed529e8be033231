"""The same network in PyTorch: the yardstick beside every claim of speed (extra `[peer]`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_core.architecture import Architecture
from ae_core.devices.device import Host
from ae_core.measuring.timing import LEARNING_RATE, Clock, affordable, distribution, measure
from ae_core.parameters import Precision
from ae_core.records import StepTime

NAME = "PyTorch"
WARMUP = 5
GPU_VARIANTS: tuple[tuple[bool, Precision], ...] = (
    (False, "float32"),
    (True, "float32"),
    (True, "TF32"),
    (True, "bf16"),
)
"""Whether a step is a CUDA graph, and what its products are computed in."""
Work = Callable[[Any], None]


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
    step = _eager(*_work(torch, images, batch_size, "cpu"))
    host = Host()
    return _timed(host.name, host, step, threads, steps, budget, batch_size)


def time_gpu_steps(
    images: npt.NDArray[np.float32],
    variant: tuple[bool, Precision],
    steps: int | None,
    budget: float,
    batch_size: int = 1,
) -> StepTime:
    """Time PyTorch's training step on the GPU, with cuDNN's best kernels.

    Args:
        images: `(N, 3, 32, 32)` float32; full batches of them are used in turn.
        variant: one of `GPU_VARIANTS`. Those that use tensor cores keep channels last.
        steps: as for `timing.time_steps`.
        budget: likewise.
        batch_size: images per step.
    """
    torch, (graph, precision) = require(), variant
    torch.backends.cudnn.benchmark = True
    tf32 = precision == "TF32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    work, batches = _work(torch, images, batch_size, "cuda", precision, in_place=graph)
    step = _graphed(torch, work, batches) if graph else _eager(work, batches)
    name, events = torch.cuda.get_device_name(), _CudaEvents(torch)
    return _timed(name, events, step, 1, steps, budget, batch_size, precision, graph, gpus=1)


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
    device: str,
    clock: Clock,
    step: Callable[[], object],
    threads: int,
    steps: int | None,
    budget: float,
    batch_size: int,
    precision: Precision = "float32",
    graph: bool = False,
    gpus: int = 0,
) -> StepTime:
    count = steps or affordable(step, clock, budget, batch_size)
    seconds = measure(step, count, WARMUP, clock)
    return StepTime(
        name=NAME,
        peer=True,
        precision=precision,
        graph=graph,
        device=device,
        device_kind="gpu" if gpus else "cpu",
        gpus=gpus,
        threads=threads,
        batch_size=batch_size,
        n=count,
        **distribution(seconds),
        total=sum(seconds),
    )


def _work(
    torch: Any,
    images: npt.NDArray[np.float32],
    batch_size: int,
    device: str,
    precision: Precision = "float32",
    in_place: bool = False,
) -> tuple[Work, Iterator[Any]]:
    """A training step on a batch, and batches on the device, over and over.

    A graph needs gradients that stay in place; launched one by one, new ones are faster.
    """
    full = len(images) // batch_size * batch_size
    model, batches = network(Architecture()).to(device), torch.from_numpy(images[:full]).to(device)
    if precision != "float32":  # the layout that tensor cores read
        model = model.to(memory_format=torch.channels_last)
        batches = batches.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    def work(batch: Any) -> None:
        optimiser.zero_grad(set_to_none=not in_place)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = torch.nn.functional.mse_loss(model(batch), batch)
        loss.backward()
        optimiser.step()

    return work, cycle(batches.split(batch_size))


def _eager(work: Work, batches: Iterator[Any]) -> Callable[[], None]:
    return lambda: work(next(batches))


def _graphed(torch: Any, work: Work, batches: Iterator[Any]) -> Callable[[], None]:
    """The whole step as one graph, which reads its batch from a fixed slot."""
    slot = next(batches).clone()
    side = torch.cuda.Stream()  # warm up beside the current stream, as capturing asks for
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUP):
            work(slot)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work(slot)

    def step() -> None:
        slot.copy_(next(batches))
        graph.replay()

    return step
