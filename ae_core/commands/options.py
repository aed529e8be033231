"""Options that several commands have, and how all of them are checked before a command begins."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import wraps
from types import NoneType
from typing import Annotated, Any, ParamSpec, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo
from typer.models import OptionInfo, ParameterInfo

from ae_core import parameters
from ae_core.phases import PHASES, lacking

P = ParamSpec("P")
CAPTURABLE = ", ".join(name for name, phase in PHASES.items() if phase.capturable)
PhaseName = Annotated[str, parameters.one_of(lambda: PHASES)]
PhaseNames = Annotated[str, parameters.one_of(lambda: [*PHASES, "all"])]

DataOption = Annotated[
    parameters.GivenData | None,
    typer.Option(help="Folder with data_batch_1.bin and so on (default: $AE_CIFAR10_DIR, cache)."),
]
PhaseOption = Annotated[PhaseName, typer.Option(help=f"One of: {', '.join(PHASES)}.")]
PhasesOption = Annotated[PhaseNames, typer.Option(help=f"One of: {', '.join(PHASES)}; or all.")]
OutOption = Annotated[
    parameters.NewFile | None,
    typer.Option(help="The record's file (default: in $AE_RECORDS_DIR, else in runs/own)."),
]
DeviceOption = Annotated[
    parameters.Device, typer.Option(help="What runs the kernels of CUDA phases.")
]
SeedOption = Annotated[parameters.Seed, typer.Option(help="Of initial parameters and image order.")]


def declared(command: Callable[P, None]) -> Callable[P, None]:
    """A command that checks its options as they are annotated, before it begins.

    Typer takes them as text, so that whatever is wrong is told in one way: in one line that names
    the option, what was expected and what was found.
    """
    kinds = get_type_hints(command, include_extras=True)
    given = inspect.signature(command).parameters.values()
    texts = [_as_text(p, kinds[p.name]) for p in given]

    @wraps(command)
    def checked(*_: P.args, **values: P.kwargs) -> None:
        command(**{n: _read(n, value, kinds[n]) for n, value in values.items()})  # type: ignore[call-arg]

    checked.__signature__ = inspect.Signature(texts)  # type: ignore[attr-defined]
    checked.__annotations__ = {p.name: p.annotation for p in texts}
    return checked


def kind_of(annotation: Any) -> Any:
    """What one value of an option is declared as, where it may be absent or one of several."""
    present = _present(annotation)
    return get_args(present)[0] if _is_list(annotation) else present


def spelled(name: str, annotation: Any) -> str:
    """What a person calls an option or argument, by its name in the command's signature."""
    info = _info(annotation)
    if not isinstance(info, OptionInfo):
        return name
    given = (info.default, *(info.param_decls or ()))  # Typer's first argument, where annotated
    return next((d for d in given if isinstance(d, str)), f"--{name.replace('_', '-')}")


def _is_list(annotation: Any) -> bool:
    return get_origin(_present(annotation)) is list


def _present(annotation: Any) -> Any:
    inner = get_args(get_args(annotation)[0])
    return next(kind for kind in inner if kind is not NoneType) if NoneType in inner else annotation


def _info(annotation: Any) -> ParameterInfo:
    return next(note for note in get_args(annotation) if isinstance(note, ParameterInfo))


def _as_text(parameter: inspect.Parameter, annotation: Any) -> inspect.Parameter:
    """A command's parameter as Typer sees it: text, with the declaration of numbers in the help."""
    if get_args(annotation)[0] is bool:
        return parameter.replace(annotation=annotation)
    info, field = copy.copy(_info(annotation)), FieldInfo.from_annotation(kind_of(annotation))
    number = field.annotation in (int, float)
    if isinstance(info, OptionInfo):
        info.metavar = "NUMBER" if number else "|".join(get_args(field.annotation)) or "TEXT"
    if number:
        info.help = f"{(info.help or '').removesuffix('.')}: {parameters.expected(field)}."
    default, text = parameter.default, list[str] if _is_list(annotation) else str
    if default not in (None, parameter.empty):
        default = str(default)
    kind: Any = text | None if default is None else text
    return parameter.replace(annotation=Annotated[kind, info], default=default)


def _read(name: str, value: Any, annotation: Any) -> Any:
    kind, called = kind_of(annotation), spelled(name, annotation)
    if isinstance(value, str):
        return parameters.read(value, kind, called)
    if isinstance(value, list):
        return [parameters.read(each, kind, called) for each in value]
    return value


def selected(phase: str, device: str) -> list[str]:
    """A phase; or all that this machine can run, and a line for each that it can't."""
    if phase != "all":
        return [phase]
    lacks = {name: lacking(name, device) for name in PHASES}
    for name, what in lacks.items():
        if what:
            print(f"{name}: left out: it needs {what}")
    return [name for name, what in lacks.items() if not what]
