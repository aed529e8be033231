"""The student report's numbers, as data that is validated when read: `book/claims.yml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import FiniteFloat, ValidationError, model_validator

from ae_book.making import chapters
from ae_book.report.quantities import QUANTITIES
from ae_core.errors import InputError
from ae_core.numbers import grouped, with_unit
from ae_core.records.base import Model

FILE = "book/claims.yml"
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")
Unit = Literal["", "s", "ms", "x", "%", "MB", "MiB", "images", "epochs"]


class ClaimError(InputError):
    """The claims can't be used: says which file, claim and field, what was expected and found."""


class Claim(Model):
    """One number of the report, or words."""

    id: str
    report: Literal["text", "final"]
    """The text that this book started from, or the final edition."""
    section: str
    title: str
    """The section's, in our words."""
    says: str
    value: FiniteFloat | None = None
    to: FiniteFloat | None = None
    """The other end, where the report gives a range."""
    names: tuple[str, ...] = ()
    """In place of a value: classes, or words."""
    unit: Unit = ""
    quote: str = ""
    """The number as printed."""
    quotient: tuple[str, str] | None = None
    """The claims that it is the quotient of, where the report does not print it."""
    measured: str | None = None
    """Our counterpart, which gives it a verdict: a key of `QUANTITIES`."""
    not_comparable: str | None = None
    """Why no counterpart of ours could give it a verdict."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.value is None) == (not self.names):
            raise ValueError("value, names: expected one of the two")
        if self.quotient is None:
            stated = [float(n.replace(",", "")) for n in NUMBER.findall(self.quote)]
            for value in (self.value, self.to):
                if value is not None and value not in stated:
                    raise ValueError(f"quote: expected {value:g} in it, found {self.quote!r}")
            if self.names and not self.quote:
                raise ValueError("quote: expected the words as printed, found none")
        quantity = QUANTITIES.get(self.measured) if self.measured else None
        if self.measured and self.not_comparable:
            raise ValueError("measured, not_comparable: expected one of the two at most")
        if self.measured and quantity is None:
            raise ValueError(f"measured: expected a quantity's name, found {self.measured!r}")
        if quantity and quantity.unit != self.unit:
            raise ValueError(f"unit: expected {quantity.unit!r} as measured, found {self.unit!r}")
        return self

    @property
    def number(self) -> float:
        """The value, of a claim that has one."""
        if self.value is None:
            raise ClaimError(f"{self.id}: expected a claim with a value, found {self.names}")
        return self.value

    @property
    def where(self) -> str:
        """Where it stands, as the book says it."""
        where = f"section {self.section}" if self.report == "text" else self.section
        return f"{where}, divided" if self.quotient else where

    @property
    def shown(self) -> str:
        """The number with as many digits as the report has, and its unit."""
        if self.names:
            return ", ".join(self.names)
        if self.quotient:
            return with_unit(self.number, self.unit)
        about = "≈ " if set(self.quote) & set("~≈") else ""
        return with_unit(about + " to ".join(map(grouped, NUMBER.findall(self.quote))), self.unit)


Claims = Mapping[str, Claim]


def load(path: str | Path | None = None) -> dict[str, Claim]:
    """The claims by id, in the file's order; `book/claims.yml` by default.

    Raises:
        ClaimError: no such file, not YAML, or a field that is missing, unknown or wrong.
    """
    path = Path(path) if path else chapters.root() / FILE
    try:
        content = yaml.safe_load(path.read_text("utf8"))
    except FileNotFoundError:
        raise ClaimError(f"{path}: expected claims, found no file") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ClaimError(f"{path}: expected YAML: {error}") from None
    claims: dict[str, Claim] = {}
    for fields in _entries(path, content):
        name = str(fields.get("id", "a claim without id"))
        if name in claims:
            raise ClaimError(f"{path}: {name}: id: expected each once, found it twice")
        try:
            claims[name] = Claim.model_validate(fields | _quotient(fields, claims))
        except ValidationError as error:
            wrong = "; ".join(map(_told, error.errors()[:5]))
            raise ClaimError(f"{path}: {name}: {wrong}") from None
        except ClaimError as error:
            raise ClaimError(f"{path}: {name}: {error}") from None
    return claims


def _entries(path: Path, content: Any) -> list[dict[str, Any]]:
    """The fields of each claim, its section's included."""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise ClaimError(f"{path}: expected a list of sections, found {type(content).__name__}")
    entries = []
    for number, part in enumerate(content, start=1):
        section = {key: value for key, value in part.items() if key != "claims"}
        if not isinstance(part.get("claims"), list):
            raise ClaimError(f"{path}: section {number}: claims: expected a list of them")
        for fields in part["claims"]:
            if not isinstance(fields, dict):
                raise ClaimError(
                    f"{path}: section {number}: claims: expected fields, found {fields!r}"
                )
            entries.append(section | fields)
    return entries


def _quotient(fields: dict[str, Any], claims: Claims) -> dict[str, float]:
    """The value of a claim that is a quotient of two others."""
    names = fields.get("quotient")
    if not isinstance(names, list) or len(names) != 2:
        return {}
    for name in names:
        if name not in claims:
            raise ClaimError(f"quotient: expected claims that stand above it, found {name!r}")
    above, below = (claims[name].number for name in names)
    return {"value": above / below}


def _told(error: Any) -> str:
    field = ".".join(map(str, error["loc"]))
    if error["type"] in ("missing", "extra_forbidden"):
        return f"{field}: {'missing' if error['type'] == 'missing' else 'no such field'}"
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{field}: {message}, found {error['input']!r}" if field else message
