"""A kernel's parameters, read from its source, and the layout of its arguments for a launch.

Both devices check and lay out arguments here, so that what the emulator refuses a GPU refuses too.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ae_core.devices.kernels import DeviceError, KernelSource

Address = Callable[[Any], int]
"""Where a device's array starts; raises TypeError for one that is not C-ordered."""
SCALARS = {"int": "i", "int64": "q", "long long": "q", "float": "f"}
"""C++ types of numbers, and what `struct` calls them."""
ELEMENTS = {
    np.dtype(dtype): names
    for dtype, names in (
        (np.float32, ("float", "float2", "float4")),
        (ml_dtypes.bfloat16, ("__nv_bfloat16", "__nv_bfloat162", "bfloat16", "bf16")),
        (np.uint8, ("unsigned char", "uint8", "uchar4")),
        (np.int32, ("int", "int2", "int4")),
        (np.uint32, ("unsigned", "unsigned int", "uint32", "uint2", "uint4")),
        (np.int64, ("int64", "long long")),
    )
}
"""What arrays hold, and the C++ types that a pointer to such elements may have."""
DTYPES = {name: dtype for dtype, names in ELEMENTS.items() for name in names}
QUALIFIERS = r"\b(?:const|volatile|struct|typename|__restrict__|__restrict|__grid_constant__)\b"
ATTRIBUTE = r"__(?:launch_bounds|cluster_dims|maxnreg)__\s*\((?:[^()]|\([^()]*\))*\)"
MISFITS = (AttributeError, OverflowError, IndexError, TypeError, struct.error)
"""What laying out an argument raises that does not fit."""
SIZES = "ae_sizes"
"""The array in compiled code that holds the sizes of structs in bytes, ordered as `structs`."""
SLOT = 8
"""Bytes: an argument starts at a multiple, whatever its size."""


def checked_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """A dtype that devices of kernels hold.

    Raises:
        DeviceError: another one; lists those that they hold.
    """
    found = np.dtype(dtype)
    if found not in ELEMENTS:
        expected = ", ".join(map(str, ELEMENTS))
        raise DeviceError(f"dtype: expected one of {expected}, found {found}")
    return found


@dataclass(frozen=True)
class Parameter:
    """A parameter as a kernel declares it: `float* x`, `int64 count`, `TensorMap map`.

    `size` is that of a struct in bytes; other types have none.
    """

    type: str
    name: str
    size: int | None = None

    @property
    def is_pointer(self) -> bool:
        """Whether it takes an array, or an address."""
        return self.type.endswith("*")

    @property
    def is_struct(self) -> bool:
        """Whether it takes bytes."""
        return not self.is_pointer and self.type not in SCALARS

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Of the array that a pointer takes; None takes any."""
        return DTYPES.get(self.type.removesuffix("*")) if self.is_pointer else None

    @property
    def code(self) -> str:
        """What `struct` calls it."""
        return "Q" if self.is_pointer else SCALARS.get(self.type, f"{self.size}s")

    @property
    def kind(self) -> str:
        """What the emulator calls it once it is compiled: p, i, l, f or s."""
        return "s" if self.is_struct else {"Q": "p", "q": "l"}.get(self.code, self.code)

    def described(self) -> str:
        """What it takes, for a person."""
        if self.is_pointer:
            return f"a C-ordered {self.dtype or ''} array of this device".replace("  ", " ")
        article = "an" if self.type[0].lower() in "aeiou" else "a"
        return f"{article} {self.type}" + (f" of {self.size} bytes" if self.is_struct else "")


class Signature:
    """The parameters of one kernel, and where each argument lies in the memory of a launch.

    Args:
        kernel: its name, for errors.
        parameters: all of them, in order, with the sizes of structs.
    """

    def __init__(self, kernel: str, parameters: Sequence[Parameter]) -> None:
        self.kernel, self.parameters = kernel, tuple(parameters)
        layout = [f"{p.code}{-struct.calcsize('=' + p.code) % SLOT}x" for p in parameters]
        numbered = list(enumerate(self.parameters))
        self._offsets = [struct.calcsize("=" + "".join(layout[:k])) for k, _ in numbered]
        self._struct = struct.Struct("=" + "".join(layout))
        self._pointers = [(k, p.dtype) for k, p in numbered if p.is_pointer]
        self._structs = [(k, p.size) for k, p in numbered if p.is_struct]

    def slots(self) -> Slots:
        """Memory for the arguments of one launch."""
        return Slots(self._struct.size, self._offsets)

    def write(self, slots: Slots, args: Sequence[Any], address: Address) -> None:
        """Check arguments and lay them out: the hot path of every step.

        Raises:
            DeviceError: too few or too many, or one that does not fit its parameter: names it.
        """
        try:
            self._lay_out(slots, args, address)
        except MISFITS:
            raise self._mismatch(args, address) from None

    def _lay_out(self, slots: Slots, args: Sequence[Any], address: Address) -> None:
        values = list(args)
        for position, dtype in self._pointers:
            array = values[position]
            if type(array) is not int:
                if dtype is not None and array.dtype != dtype:
                    raise TypeError
                values[position] = address(array)
        for position, size in self._structs:
            values[position] = content = memoryview(values[position]).tobytes()
            if len(content) != size:
                raise TypeError
        # Counts arguments, checks kinds and ranges, and converts, all in C.
        self._struct.pack_into(slots.memory, 0, *values)

    def _mismatch(self, args: Sequence[Any], address: Address) -> DeviceError:
        if len(args) != len(self.parameters):
            names = ", ".join(p.name for p in self.parameters)
            return DeviceError(
                f"{self.kernel}: expected {len(self.parameters)} arguments ({names}), "
                f"found {len(args)}"
            )

        def fits(parameter: Parameter, argument: Any) -> bool:
            alone = Signature(self.kernel, [parameter])
            try:
                alone._lay_out(alone.slots(), [argument], address)
            except MISFITS:
                return False
            return True

        position, parameter, argument = next(
            (k, p, a)
            for k, (p, a) in enumerate(zip(self.parameters, args, strict=True))
            if not fits(p, a)
        )
        return DeviceError(
            f"{self.kernel}: argument {position} ({parameter.name}): "
            f"expected {parameter.described()}, found {_described(argument)}"
        )


class Slots:
    """Arguments in memory, and the array of their addresses, as cuLaunchKernel reads them."""

    def __init__(self, size: int, offsets: Sequence[int]) -> None:
        self.memory = (ctypes.c_uint64 * (size // SLOT))()
        first = ctypes.addressof(self.memory)
        self.addresses = (ctypes.c_void_p * len(offsets))(*(first + k for k in offsets))


def read(source: KernelSource, folder: Path) -> dict[str, list[Parameter]]:
    """The parameters of each instantiation, as its file or a header beside it declares them.

    Template arguments stand in their place. The sizes of structs are the compiler's to tell.

    Args:
        source: a file and its instantiations.
        folder: where the sources of kernels are.

    Raises:
        DeviceError: a kernel is not there, or its declaration can't be read.
    """
    declared: dict[str, tuple[str, str]] = {}
    for path in (folder / source.file, *sorted(folder.glob("*.cuh"))):
        text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", path.read_text("utf8"), flags=re.DOTALL)
        for template, head in re.findall(
            r"(?:\btemplate\s*<([^{};]*)>\s*)?__global__\b([^{;]*)", text
        ):
            found = re.search(
                r"\bvoid\s+(\w+)\s*\((.*)\)\s*$", re.sub(ATTRIBUTE, " ", head), re.DOTALL
            )
            if found:
                declared.setdefault(found[1], (template, found[2]))
    return {name: _parameters(source.file, name, declared) for name in source.instantiations}


def structs(declared: Mapping[str, Sequence[Parameter]]) -> list[str]:
    """The types that kernels take by value, beside numbers."""
    return sorted({p.type for parameters in declared.values() for p in parameters if p.is_struct})


def sizes_declaration(declared: Mapping[str, Sequence[Parameter]]) -> str:
    """C++ that lets the compiler tell the sizes of structs; empty where there are none."""
    sizes = ", ".join(f"sizeof({name})" for name in structs(declared))
    return f"unsigned {SIZES}[] = {{{sizes}}};" if sizes else ""


def sized(
    declared: Mapping[str, Sequence[Parameter]], sizes: Sequence[int]
) -> dict[str, Signature]:
    """The signature of each instantiation, with the sizes of structs as the compiler told them."""
    known = dict(zip(structs(declared), map(int, sizes), strict=True))
    return {
        name: Signature(name, [replace(p, size=known.get(p.type)) for p in parameters])
        for name, parameters in declared.items()
    }


def _parameters(
    file: str, instantiation: str, declared: Mapping[str, tuple[str, str]]
) -> list[Parameter]:
    name, _, arguments = instantiation.partition("<")
    if name not in declared:
        raise DeviceError(f"{file}: expected a kernel __global__ void {name}(...), found none")
    template, parameters = declared[name]
    known = dict(zip(_listed(template), _listed(arguments.removesuffix(">")), strict=False))
    values = {
        re.sub(r"\s*=.*", "", formal, flags=re.DOTALL).split()[-1]: actual
        for formal, actual in known.items()
    }
    found = []
    for text in _listed(parameters):
        match = re.fullmatch(r"(.+?)((?:\s*\*)*)\s*\b(\w+)", re.sub(QUALIFIERS, " ", text).strip())
        if not match:
            raise DeviceError(
                f"{file}: {name}: expected parameters like `const float* x` or `int count`, "
                f"found `{text}`"
            )
        spelled = re.sub(r"\b\w+\b", lambda word: values.get(word[0], word[0]), match[1])
        found.append(Parameter(" ".join(spelled.split()) + "".join(match[2].split()), match[3]))
    return found


def _listed(text: str) -> list[str]:
    """What commas separate, except within brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "<([") - (character in ">)]")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _described(argument: Any) -> str:
    """What was given, for a person; nothing is copied from a device for it."""
    if hasattr(argument, "strides"):
        kind = f"{type(argument).__module__}.{type(argument).__name__}"
        return f"a {kind} of {argument.dtype}, shape {argument.shape}, strides {argument.strides}"
    if isinstance(argument, bytes | ctypes.Structure):
        return f"{len(bytes(argument))} bytes"
    return f"{argument!r:.80}"
