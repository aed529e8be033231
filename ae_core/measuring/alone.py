"""One operation of a phase by itself, at one layer's shape: is it right, and how fast is it?"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ae_core import phases
from ae_core.architecture import KERNEL_SIZE, Architecture
from ae_core.autoencoder import Autoencoder, default_architecture
from ae_core.devices import nvrtc
from ae_core.devices.device import Array, Device
from ae_core.devices.kernel_device import KernelDevice, open_device
from ae_core.devices.kernels import KernelSource
from ae_core.devices.nvrtc import Usage
from ae_core.errors import InputError
from ae_core.measuring.profiling import measure_ceilings, time_entries
from ae_core.measuring.verification import TOLERANCES, difference
from ae_core.phases.operations import Operations
from ae_core.phases.plan import KINDS, Cost, Plan, Step
from ae_core.records import Ceilings, Difference, OperationTime

IN_PLACE: dict[str, tuple[str, ...]] = {"bias_forward": ("y",), "sgd": ("parameters",)}
"""Operations whose result takes the place of an argument."""
SEVERAL: dict[str, tuple[str, ...]] = {"mse": ("dy", "loss")}
"""Operations with more than one result; all others write their last argument."""
LEARNING_RATE = 1.0
"""Of an update that is checked: what it changes is then as large as the gradients."""


@dataclass(frozen=True)
class OnArrays:
    """An operation as a step on arrays of its own, filled with random numbers."""

    step: Step
    results: Mapping[str, Array]
    """By the argument's name; NaN until the step has run, unless it works in place."""


@dataclass(frozen=True)
class Alone:
    """What was found about one step of a phase."""

    step: Step
    device: Device
    architecture: Architecture
    batch_size: int
    reference: str
    """What the results were held against."""
    differences: tuple[Difference, ...]
    time: OperationTime | None
    """None on the emulator."""
    includes_launches: bool
    """Whether the time is that of launching: the step has too many launches to queue ahead."""
    ceilings: Ceilings | None
    """None where they do not apply: not a GPU, or products in another precision than float32."""

    @property
    def passed(self) -> bool:
        """Whether every result is within tolerance."""
        return all(difference.passed for difference in self.differences)

    @property
    def roofline_share(self) -> float | None:
        """The least time that the ceilings allow, over the median; None without either."""
        if not self.time or not self.ceilings or self.includes_launches:
            return None
        return self.ceilings.seconds(self.time.flops, self.time.bytes) / self.time.median


def measure_alone(
    phase: str,
    operation: str,
    layer: str | None = None,
    *,
    batch_size: int | None = None,
    architecture: Architecture | None = None,
    device: str | KernelDevice = "auto",
    repeats: int = 100,
    seed: int = 0,
) -> Alone:
    """Check one operation of a phase against CPU loops in float64; time it, but on the emulator.

    Where linked layers make the phase's plan, the operation is called on random arrays. A plan of
    its own is run in whole, on random images, and what it keeps of the step's results is compared;
    a fault in another step shows there too. The time is that of the step alone either way, over
    and over on the same arrays, which stay in a cache that is large enough for them.

    Args:
        phase: the phase.
        operation: one that `Architecture.costs` names.
        layer: where; by default the first layer that has it.
        batch_size: images; by default what the phase is made for.
        architecture: the network; by default the book's, or `MINI` on the emulator.
        device: what runs the kernels of a CUDA phase.
        repeats: how often to time it.
        seed: of the random numbers.

    Raises:
        InputError: the layer has no such operation, or the plan does it in no step.
    """
    opened = phases.opened(phase, device)
    architecture = architecture or default_architecture(opened)
    batch_size = batch_size or phases.named(phase).batch_size
    name = f"{layer or layers_with(operation)[0]}.{operation}"
    if layer and layer not in layers_with(operation):
        raise InputError(
            f"layer: expected one with {operation}, {', '.join(layers_with(operation))}, "
            f"found {layer}"
        )
    loops, where = "cpu" if phase == "cpu-parallel" else "cpu-parallel", cast(KernelDevice, opened)
    if phases.named(phase).layered:
        what = (architecture, name, batch_size)
        found = on_random_arrays(phases.operations(phase, where), *what, seed=seed)
        exact = on_random_arrays(phases.operations(loops), *what, dtype=np.float64, seed=seed)
        step, differences = found.step, _compared(phase, found, exact, opened)
    else:
        plan = phases.create(phase, architecture, batch_size, where)
        reference = phases.create(loops, architecture, batch_size, dtype=np.float64)
        step = step_that_does(plan, name)
        differences = _compared_in_plan(plan, reference, step, seed)
    timed, held = None, True
    if opened.kind != "emulator":
        (timed,), held = time_entries([step], opened, repeats=repeats)
    roofline = opened.kind == "gpu" and phases.named(phase).precision == "float32"
    return Alone(
        step=step,
        device=opened,
        architecture=architecture,
        batch_size=batch_size,
        reference=f"{phases.title(loops)}, in float64",
        differences=tuple(differences),
        time=timed,
        includes_launches=not held,
        ceilings=measure_ceilings(open_device("cuda")) if roofline else None,
    )


def compiled(phase: str, architecture: str) -> dict[KernelSource, dict[str, Usage]]:
    """What each kernel that a phase launches uses of a card, by its file; needs no GPU.

    Args:
        phase: a CUDA phase.
        architecture: what to compile for: `sm_75`, `sm_90a`.

    Raises:
        InputError: the phase has no kernels.
        DeviceError: a file does not compile for this architecture; or NVRTC is not installed.
    """
    if not phases.named(phase).cuda:
        raise InputError(f"{phase}: expected a phase with kernels, found one of the CPU's")
    return {
        source: nvrtc.compile(source, architecture.removeprefix("sm_"))
        for source in phases.implementation(phase).sources
    }


def layers_with(operation: str) -> list[str]:
    """The layers that a training step does this operation for, in forward order."""
    having = {cost.layer for cost in Architecture().costs() if cost.operation == operation}
    return [name for name in (*_layers(Architecture()), "loss", "update") if name in having]


def on_random_arrays(
    operations: Operations,
    architecture: Architecture,
    name: str,
    batch_size: int = 1,
    *,
    dtype: npt.DTypeLike = np.float32,
    seed: int = 0,
) -> OnArrays:
    """An operation as a step on random arrays of the shapes that a layer has.

    Args:
        operations: a phase's.
        architecture: the network.
        name: `LAYER.OPERATION`, as `Architecture.costs` has them.
        batch_size: images.
        dtype: of the arrays; their values are float32's in any case.
        seed: of the values, which are normal deviates.
    """
    layer, operation = name.split(".")
    call, random = getattr(operations, operation), np.random.default_rng(seed)
    _, *arguments = inspect.signature(getattr(Operations, operation)).parameters
    in_place = IN_PLACE.get(operation, ())
    results = in_place or SEVERAL.get(operation, (arguments[-1],))
    shapes, arrays = _shapes(architecture, layer, batch_size), {}
    for argument in arguments:
        values = random.standard_normal(shapes[argument], np.float32)
        if operation.startswith("maxpool"):
            values = np.maximum(values, 0)  # as after ReLU: with windows whose largest are equal
        if argument in results and argument not in in_place:
            values[...] = np.nan
        arrays[argument] = operations.device.empty(values.shape, dtype)
        operations.device.upload(values.astype(dtype), arrays[argument])
    costs = {f"{c.layer}.{c.operation}": c for c in architecture.costs(batch_size)}
    step = Step(
        name,
        KINDS.get(operation.split("_", maxsplit=1)[0], "elementwise"),
        Cost(costs[name].flops, costs[name].bytes),
        partial(call, *arrays.values()),
        (name,),
    )
    return OnArrays(step, {result: arrays[result] for result in results})


def launches(step: Step, device: Device) -> int:
    """How many kernels a step launches; runs it."""
    before = device.launches
    step.run()
    return device.launches - before


def step_that_does(plan: Plan, name: str) -> Step:
    """The step of a plan's training step in which it does an operation, alone or with others.

    Raises:
        InputError: there is none.
    """
    plan.set_batch(plan.batch_size)
    steps = [*plan.differentiate, *plan.update]
    for step in steps:
        if name in step.operations:
            return step
    there = ", ".join(operation for step in steps for operation in step.operations)
    raise InputError(f"{plan.name}: expected a step that does {name}, found none: it does {there}")


def _layers(architecture: Architecture) -> list[str]:
    return [layer.name for layer in architecture.layers]


def _shapes(architecture: Architecture, layer: str, batch: int) -> dict[str, tuple[int, ...]]:
    """Of the arguments of operations, by their names in `Operations`."""
    if layer == "update":
        flat = (architecture.parameter_count,)
        return {"parameters": flat, "gradients": flat, "learning_rate": (1,)}
    if layer == "loss":
        image = (batch, *architecture.layers[-1].output)
        return {"y": image, "target": image, "dy": image, "loss": (batch,)}
    spec = architecture.layers[_layers(architecture).index(layer)]
    x, y = (batch, *spec.input), (batch, *spec.output)
    weights = (spec.output[0], spec.input[0], KERNEL_SIZE, KERNEL_SIZE)
    return {
        **{"x": x, "dx": x, "y": y, "dy": y},
        **{"weights": weights, "dw": weights, "biases": weights[:1], "db": weights[:1]},
    }


def _tolerance(phase: str, operation: str) -> float:
    """Of a result: sums over all pixels of all images round more than those over channels."""
    tolerances = TOLERANCES[phases.named(phase).precision]
    forward = operation in ("mse", "sgd") or operation.endswith("_forward")
    return tolerances.forward if forward else tolerances.gradient


def _compared(phase: str, found: OnArrays, expected: OnArrays, device: Device) -> list[Difference]:
    found.step.run()
    expected.step.run()
    tolerance = _tolerance(phase, found.step.name.rpartition(".")[2])
    return [
        difference(name, device.download(array), expected.results[name], tolerance)
        for name, array in found.results.items()
    ]


def _compared_in_plan(plan: Plan, reference: Plan, step: Step, seed: int) -> list[Difference]:
    """What a whole training step leaves of one step's results, in a plan and in its reference."""
    image = plan.architecture.layers[0].output
    images = np.random.default_rng(seed).random((plan.batch_size, *image), np.float32)
    for each in (plan, reference):
        autoencoder = Autoencoder(each, seed=seed)
        autoencoder.poison()
        autoencoder.gradients(images)
        autoencoder.learning_rate = LEARNING_RATE
        for update in each.update:
            update.run()
    differences = {}
    for name in step.operations:
        quantity, read = _kept(plan, name)
        tolerance = _tolerance(plan.name, name.rpartition(".")[2])
        differences[quantity] = difference(quantity, read(plan), read(reference), tolerance)
    return list(differences.values())


def _kept(plan: Plan, name: str) -> tuple[str, Callable[[Plan], npt.NDArray[Any]]]:
    """Where an operation's result can be seen after a training step, and how.

    What is not materialised is seen in the next layer that is, or in the loss.
    """
    layer, _, operation = name.partition(".")
    if operation == "sgd":
        return "parameters", lambda of: of.device.download(of.parameters)
    if operation == "mse":
        return "loss of each image", lambda of: of.device.download(of.loss)
    if operation.endswith("_forward"):
        names = _layers(plan.architecture)
        later = [n for n in names[names.index(layer) :] if n not in plan.not_materialised]
        if later:
            return f"output of {later[0]}", lambda of: of.activation(later[0])
        return "loss of each image", lambda of: of.device.download(of.loss)
    if operation == "bias_gradient":
        tensor = f"{layer}.biases"
    elif operation == "conv2d_weight_gradient":
        tensor = f"{layer}.weights"
    else:  # a gradient of activations, which the convolution before it has in its weights'
        names = _layers(plan.architecture)
        tensor = [f"{n}.weights" for n in names[: names.index(layer)] if n.startswith("conv")][-1]
    return (
        f"gradient of {tensor}",
        lambda of: of.architecture.views(of.device.download(of.gradients))[tensor],
    )
