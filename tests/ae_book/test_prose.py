# ruff: noqa: RUF001
"""No measurement is typed in the book's prose: a number with a unit is glued from a record."""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

BOOK = Path(__file__).resolve().parents[2] / "book"
SOURCES = sorted(path for ending in ("ipynb", "md") for path in BOOK.glob(f"*.{ending}"))

ALLOWED = {
    "one byte for the label": "CIFAR-10's format",
    "plane, 1,024 bytes each": "CIFAR-10's format",
    "each convolution about three times: once forward": "counted, as the sentence goes on to do",
    "multiplies nine times": "the taps of a square kernel of side 3",
    "is read nine times for": "the taps of a square kernel of side 3",
    "takes nine times the memory of the input": "the taps of a square kernel of side 3",
    "repeats each pixel nine times": "the taps of a square kernel of side 3",
    "A batch of 128 would need that 128 times": "the sentence's own arithmetic",
    "written for another, ten times as large": "the report's 20 and 200 epochs",
}
"""What may stand, and why."""

WORDS = (
    "one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty "
    "fifty sixty seventy eighty ninety hundred thousand"
)
DIGITS = r"(?<![\w.,])\d[\d,.]*(?:e[+-]?\d+)?[-\s]?"
WORD = rf"\b(?:{WORDS.replace(' ', '|')})(?:[-\s]|(?=fold))"
UNITS = (
    r"[nuµμm]?s|sec|seconds?|min|minutes?|h|hours?|days?|(?:nano|micro|milli)seconds?",
    r"[kKMGTP]?i?B(?:/s)?|(?:kilo|mega|giga|tera)?bytes?",
    r"[kKMGTP]?(?:FLOPs?|OPs?|multiply-adds)(?:/s)?",
    r"%|percent|per cent|(?:percentage )?points?|dB|W|watts?|k?Wh|[kMG]?Hz|cycles?",
    r"×(?!\s?\d)|x|fold|times",
)
MEASUREMENT = re.compile(rf"(?:{DIGITS}|{WORD})(?:{'|'.join(UNITS)})(?!\w)")


def without_code(markdown: str) -> str:
    """The text without fenced code and formulas; what other directives hold is prose."""
    lines, open_fences = [], []
    for line in markdown.splitlines():
        fence = re.match(r" *(`{3,}|:{3,})\s*(.*)", line)
        if not fence:
            lines += [line] * (not any(code for _, code in open_fences))
        elif open_fences and open_fences[-1][0] == fence[1] and not fence[2]:
            open_fences.pop()
        else:
            open_fences.append((fence[1], bool(re.match(r"(?!\{)|\{code|\{math", fence[2]))))
    return "\n".join(lines)


def prose(markdown: str) -> str:
    """What a reader reads as text: no code, no formulas, no roles, no addresses."""
    text = re.sub(r"\$\$.+?\$\$", "(formula)", without_code(markdown), flags=re.S)
    text = re.sub(r"(?<!\\)\$[^$]+\$", "(formula)", text)
    text = re.sub(r"\{[\w:+-]+\}`[^`]*`", "(role)", text)
    text = re.sub(r"(`+)[^`].*?\1", "(code)", text, flags=re.S)
    text = re.sub(r"\]\([^)\s]*\)|<https?:[^>]*>", "]", text)
    return re.sub(r"\s+", " ", html.unescape(text).replace("*", ""))


def typed(markdown: str) -> list[str]:
    """Measurements in prose, each with the words around it."""
    text = prose(markdown)
    for phrase in ALLOWED:
        text = text.replace(phrase, "(allowed)")
    return [text[max(0, m.start() - 40) : m.end() + 20] for m in MEASUREMENT.finditer(text)]


def strings(code: str) -> Iterator[str]:
    """What code may say: its strings, with a role in place of each value that is filled in."""

    def text(node: ast.AST) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(map(text, node.values))
        return str(node.value) if isinstance(node, ast.Constant) else "(role)"

    parents = [ast.parse(code)]
    while parents:
        node = parents.pop()
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        ):
            yield text(node)
        else:
            parents += ast.iter_child_nodes(node)


def texts(path: Path) -> Iterator[str]:
    """All prose of a source: Markdown, captions, alternative texts, strings in code."""
    if path.suffix != ".ipynb":
        yield path.read_text("utf8")
        return
    for cell in json.loads(path.read_text("utf8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield source
        else:
            yield from strings(source)
        about = cell["metadata"].get("mystnb", {})
        yield about.get("figure", {}).get("caption", "")
        yield about.get("image", {}).get("alt", "")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_measurement_is_typed(path):
    found = [measurement for text in texts(path) for measurement in typed(text)]
    assert found == [], "glue it from a record, or name it in ALLOWED with the reason"


def test_what_is_allowed_stands_somewhere():
    everything = " ".join(prose(text) for path in SOURCES for text in texts(path))
    assert [phrase for phrase in ALLOWED if phrase not in everything] == []


PLANTED = r"""
It takes 4.2 ms. | a step of 12ms | in 1.5 µs | after 3 hours | a 30-second run | 20 s | in *4.2* ms
12 % | 12% of it | about 7 percent | by 2.5 points | 18.4 dB | 80 GB | 512 MiB of it | 3,072 bytes
4.2 TB/s | 11 TFLOP/s | 1.2e3 GFLOP/s | 3.5x faster | 19.6× as fast | 19.6 ×, and more | 65.9 times
tenfold | ten times as fast | two\nminutes | 4.2&nbsp;ms | ```{note}\nIt takes 4.2 ms.\n```
```{note}\nIt\n```\ntakes 4.2 ms.\n```bash\nsleep 1\n``` | [it takes 4.2 ms](a.md)
"""
STANDING = r"""
a kernel of 3 × 3 weights | 32 × 32 pixels | 2×2 windows | 50,000 images | sm_90 | the ones
{glue:text}`step:.1f` ms | {glue:text}`a:.1f` to {glue:text}`b:.1f` % | `sleep 4 s` | ``a ` 4 ms``
```bash\nsleep 4 s\n``` | ```{code-block}\n4 s\n``` | $t = 4 s$ | $$\nt = 4 s\n$$ | 10 steps
[it](page-4%20ms.md) | chapter 5 says | figure 2 has
"""


def examples(text: str) -> list[str]:
    found = [part.strip() for line in text.strip().splitlines() for part in line.split(" | ")]
    return [example.replace(r"\n", "\n") for example in found]


@pytest.mark.parametrize("planted", examples(PLANTED))
def test_a_planted_measurement_is_found(planted):
    assert len(typed(planted)) == 1


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ('say(f"It takes {1e3 * t:.1f} ms, not 4.2 ms.")', 1),
        ('say(\n    f"It takes {t} s: 11 "\n    f"TFLOP/s."\n)', 1),
        ('say(f"It takes {t} s" if t else "12 % of it")', 1),
        ('say(f"It takes {1e3 * t:.1f} ms.")  # 4.2 ms', 0),
    ],
)
def test_strings_in_code_are_prose(code, count):
    assert sum(len(typed(text)) for text in strings(code)) == count


@pytest.mark.parametrize("text", examples(STANDING))
def test_what_is_no_measurement_stands(text):
    assert typed(text) == []
