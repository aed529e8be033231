"""What the options of commands, the settings of runs and the parameters of chapters may be.

Each is declared once, by name: a type with its range or its choices. Records, the command line and
the book's chapters use the same types. An error is one line that names the parameter, what was
expected and what was found.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ae_core import machine
from ae_core.architecture import Architecture
from ae_core.data.cifar10 import refuse_archive
from ae_core.errors import InputError
from ae_core.files import DANGLING, FILE, FOLDER, NOTHING, expanded, found_at

MOST = 1_000_000
"""Epochs, steps and seconds: more than anybody waits for, and few enough to count with."""
SHOWN = reprlib.Repr()
SHOWN.maxstring = SHOWN.maxother = SHOWN.maxlong = 60
Kind = TypeVar("Kind", bound=BaseModel)


class ParameterError(InputError):
    """Parameters that can't be used: a line for each."""


# --- what is checked beyond type and range -------------------------------------------------------


def folder(path: str) -> str:
    """The path of an existing folder, as it was given.

    Raises:
        ValueError: no folder is there.
    """
    _refuse_other_than(path, "an existing folder", FOLDER)
    return path


def _file(path: str) -> str:
    _refuse_other_than(path, "an existing file", FILE)
    return path


def _data(path: str) -> str:
    refuse_archive(path)
    return folder(path)


def _named(path: str) -> str:
    if not path:  # which would become the current folder
        raise ValueError("expected a path, found ''")
    return path


def _new_file(path: Path) -> Path:
    _refuse_other_than(path, "a file to write", NOTHING, FILE)
    _refuse_file_above(path)
    return path


def _new_folder(path: Path) -> Path:
    _refuse_other_than(path, "a folder to write", NOTHING, FOLDER)
    _refuse_file_above(path)
    return path


def _refuse_file_above(path: Path) -> None:
    there = (FOLDER, FILE, DANGLING)
    above = next(p for p in expanded(path).absolute().parents if found_at(p) in there)
    _refuse_other_than(above, "a folder above it", FOLDER)


def _refuse_other_than(path: str | Path, wanted: str, *things: str) -> None:
    found = found_at(expanded(path)) if str(path) else NOTHING
    if found not in things:
        raise ValueError(f"expected {wanted}, found {found}: {shown(str(path))}")


def _available_device(device: str) -> str:
    if device == "cuda" and not machine.gpu():
        raise ValueError("expected an NVIDIA GPU for 'cuda', found none: choose auto")
    return device


def _operations() -> list[str]:
    return list(dict.fromkeys(cost.operation for cost in Architecture().costs()))


def _layers() -> list[str]:
    return [*(layer.name for layer in Architecture().layers[1:]), "loss", "update"]


def _available_engine(engine: str) -> str:
    if engine == "rapids" and (missing := machine.lacking_for_rapids()):
        raise ValueError(f"expected auto or scikit-learn, found 'rapids', which needs {missing}")
    return engine


def or_none(check: Callable[[str], str]) -> AfterValidator:
    """An empty text stands for the default."""
    return AfterValidator(lambda text: text and check(text))


def one_of(names: Callable[[], Iterable[str]]) -> AfterValidator:
    """Choices that are known only when a value is checked."""

    def check(value: str) -> str:
        there = list(names())
        if value not in there:
            raise ValueError(f"expected one of {', '.join(there)}, found {shown(value)}")
        return value

    return AfterValidator(check)


# --- the declarations, a name each ---------------------------------------------------------------

Epochs = Annotated[int, Field(strict=True, ge=1, le=MOST)]
ReportEpochs = Annotated[int, Field(strict=True, ge=0, le=MOST)]
TrainingImages = Annotated[int, Field(strict=True, ge=1, le=50_000)]
ClassifiedImages = Annotated[int, Field(strict=True, ge=10, le=50_000)]
"""Training images of ten classes, each with one at least."""
TestImages = Annotated[int, Field(strict=True, ge=0, le=10_000)]
"""0: training ends without looking at any."""
SomeTestImages = Annotated[int, Field(strict=True, ge=1, le=10_000)]
"""Of chapters, whose text tells the error on them."""
ClassifiedTestImages = Annotated[int, Field(strict=True, ge=10, le=10_000)]
BatchSize = Annotated[int, Field(strict=True, ge=1, le=50_000)]
LearningRate = Annotated[float, Field(strict=True, ge=1e-38, le=1e38, allow_inf_nan=False)]
"""What float32 holds: beyond, a step would change nothing, or everything to infinity."""
InitialScale = Annotated[float, Field(strict=True, gt=0, le=1000, allow_inf_nan=False)]
Seed = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)]
"""What every library that draws random numbers accepts."""
CheckedImages = Annotated[int, Field(strict=True, ge=1, le=1000)]
"""In one batch, of which each image takes 17 MB in float64."""
CheckedSteps = Annotated[int, Field(strict=True, ge=0, le=MOST)]
Steps = Annotated[int, Field(strict=True, ge=3, le=MOST)]
"""Of fewer there is no median with a spread."""
Duration = Annotated[float, Field(strict=True, gt=0, le=MOST, allow_inf_nan=False)]
Budget = Annotated[float, Field(strict=True, ge=0, le=MOST, allow_inf_nan=False)]
"""Seconds; 0 for the fewest steps."""
PerClass = Annotated[int, Field(strict=True, ge=1, le=100)]
Encoders = Annotated[int, Field(strict=True, ge=1, le=1000)]
Compared = Annotated[int, Field(strict=True, ge=10, le=10_000)]
Timed = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Cost = Annotated[float, Field(strict=True, gt=0, le=1e9, allow_inf_nan=False)]
Gamma = Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)]
Search = Annotated[bool, Field(strict=True)]
DeviceChoice = Literal["auto", "cuda", "emulated"]
Device = Annotated[DeviceChoice, AfterValidator(_available_device)]
EncodingDevice = Annotated[Literal["auto", "cuda"], AfterValidator(_available_device)]
EngineChoice = Annotated[
    Literal["auto", "rapids", "scikit-learn"], AfterValidator(_available_engine)
]
FileFormat = Literal["parquet", "csv"]
Peer = Literal["torch"]
Operation = Annotated[str, one_of(_operations)]
"""Of the network, as `Architecture.costs` names them."""
LayerName = Annotated[str, one_of(_layers)]
"""Where an operation belongs: to a layer, the loss or the update."""
Network = Literal["book", "mini"]
WarpOrder = Literal["forward", "reverse", "random"]
"""In which the emulator's warps, lanes and blocks take turns."""
CudaArchitecture = Annotated[
    str,
    Field(
        strict=True, pattern=r"^sm_\d{2,3}[af]?$", description="an architecture, as sm_75 or sm_90a"
    ),
]
StepKind = Literal["input", "convolution", "elementwise", "loss", "update", "exchange"]
"""Of a part of a training step; a convolution with something fused into it is a convolution."""
Precision = Literal["float32", "TF32", "bf16"]
"""Of products: float32's own, from operands rounded to TF32's 10 bits, or to bf16's 7."""

PATH = Field(strict=True, description="the path of a folder or file, as text")
Folder = Annotated[str, PATH, AfterValidator(folder)]
File = Annotated[str, PATH, AfterValidator(_file)]
NewFolder = Annotated[Path, BeforeValidator(_named), AfterValidator(_new_folder)]
NewFile = Annotated[Path, BeforeValidator(_named), AfterValidator(_new_file)]
GivenData = Annotated[str, PATH, AfterValidator(_data)]
DataFolder = Annotated[str, PATH, or_none(_data)]
CheckpointFile = Annotated[str, PATH, or_none(_file)]


def batch_within_images(settings: Any) -> Any:
    """Settings whose batch would never be full are refused."""
    if settings.batch_size > settings.images:
        raise ValueError(
            f"batch_size: expected at most images, {settings.images}, found {settings.batch_size}"
        )
    return settings


def validated(kind: type[Kind], **values: Any) -> Kind:
    """Settings made from values that belong together.

    Raises:
        ParameterError: a line for each that is wrong.
    """
    return validate(kind, values, kind.__name__)


def validate(kind: type[Kind], values: Mapping[str, Any], owner: str) -> Kind:
    """Likewise; `owner` is what an error calls them.

    Raises:
        ParameterError: a line for each that is wrong.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        lines = [_line(kind, each, owner) for each in error.errors(include_url=False)]
        raise ParameterError("\n".join(lines)) from None


def read(text: str, kind: Any, name: str) -> Any:
    """The value that a text of the command line stands for.

    Args:
        text: as typed.
        kind: what it is declared as.
        name: what an error calls it.

    Raises:
        ParameterError: it is not of that kind.
    """
    try:
        return TypeAdapter(kind).validate_strings(text)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False)
        line = _told(name, FieldInfo.from_annotation(kind), first, found=_typed(text))
        raise ParameterError(line) from None


def expected(field: FieldInfo) -> str:
    """A declaration in words: `a whole number from 1 to 50,000`."""
    kind: Any = field.annotation
    if field.description:
        return field.description
    if choices := get_args(kind):
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if kind not in (int, float):
        return {bool: "True or False", str: "text", Path: "a path"}.get(kind, str(kind))
    noun = "a whole number" if kind is int else "a finite number"
    least, above, most = (_limit(field, name) for name in ("ge", "gt", "le"))
    if least is not None:
        noun += f" from {least}"
    if above is not None:
        noun += f" above {above}"
    if most is not None:
        noun += f" to {most}" if least else f", at most {most}"
    return noun


def shown(value: Any) -> str:
    """A value in an error, shortened if it is long."""
    try:
        return SHOWN.repr(value)
    except Exception:  # an integer of more digits than Python prints, or a broken object
        return f"a value of type {type(value).__name__} that can't be printed"


def _line(kind: type[BaseModel], error: ErrorDetails, owner: str) -> str:
    if not error["loc"]:  # two that do not go together
        return str(error["ctx"]["error"])
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        known = list(kind.model_fields)
        meant = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {meant[0]}? it has" if meant else "it has"
        return f"{name}: no such parameter of {owner}; {hint} {', '.join(known)}"
    return _told(name, kind.model_fields[name], error)


def _told(name: str, field: FieldInfo, error: ErrorDetails, found: str = "") -> str:
    if error["type"] == "value_error":
        return f"{name}: {error['ctx']['error']}"
    found = found or ("nothing" if error["type"] == "missing" else shown(error["input"]))
    return f"{name}: expected {expected(field)}, found {found}"


def _typed(text: str) -> str:
    """Text of the command line, in quotes if it is no number."""
    try:
        float(text)
    except ValueError:
        return shown(text)
    return shown(text).strip("'")


def _limit(field: FieldInfo, name: str) -> str | None:
    found = next((getattr(m, name) for m in field.metadata if hasattr(m, name)), None)
    return f"{found:,}" if isinstance(found, int) else found and f"{found:g}"
