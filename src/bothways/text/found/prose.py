"""Turns marked-up documentation into plain prose, and hides the names of libraries in it.

``prose`` understands the mixture that Python documentation is written in: reStructuredText with the numpydoc and
Google conventions, Sphinx fields and some Markdown. Code, tables, displayed formulas and references go; words stay.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from bothways.text.found.docstrings import STANDARD_LIBRARY

_KEPT_DIRECTIVES = {"note", "warning", "important", "tip", "hint", "caution", "admonition", "seealso", "attention"}
_FENCE = re.compile(r"\s*(?:```|~~~)")
_SESSION = re.compile(r"\s*(?:>>>|In \[\d+\]:|\$ )")
_RULER = re.compile(r"\s*([-=~^\"*#+_.])\1{2,}\s*$")
_TABLE_EDGE = re.compile(r"\s*(?:[=-]{2,}(?: +[=-]{2,})+|\+[-=+]{3,})\s*$")
_TABLE_ROW = re.compile(r"\s*(?:\||[\u2500-\u257f])")
_DIRECTIVE = re.compile(r"\.\. +([\w:-]+?) *::(.*)$")
_OPTION = re.compile(r"\s*:\w+:(?: |$)")
_COMMENT = re.compile(r"\.\.(?: |$)")
_FIELD = re.compile(r":(param|parameter|arg|raises?|returns?|type|rtype|ivar|cvar|var|yields?)\b([^:]*):")
_FIELD_WORDS = {
    **{"raise": "Raises ", "raises": "Raises ", "return": "Returns", "returns": "Returns"},
    **{"yield": "Yields", "yields": "Yields"},
}
_MARKUP_LINE = re.compile(r"</?\w+(?: [^>]*)?>$|> ?\[!\w+\]$|\[\[\w+\]\]|#{1,6}$|@\w+(?:\(.*\))?$")
_BULLET = re.compile(r"(?:[-*+•]|\(?\d+[.)]|\(?[a-z]\)) +(?=\S)")
_TERM = re.compile(r"[\w*`., '\[\]\"]+ : \S|\*{0,2}\w+$")  # numpydoc: the description follows, indented
_ITEM = re.compile(r"\*{0,2}[\w.`]+\*?(?: ?\(.*\))?(?::(?: |$)| -- )")  # Google: the description follows and hangs
_HEADING = re.compile(r"(?:[A-Z][\w-]+)(?: [\w-]+){0,2}:$")

_INLINE = [
    (re.compile(r":[\w:+-]+:`~?\.?([^`<]*?)\s*(?:<[^`]*>)?`"), r"\1"),  # role
    (re.compile(r"`([^`<]+?)\s*<[^`]*>`__?"), r"\1"),  # link
    (re.compile(r"!?\[`?([^\]`]+)`?\](?:\([^)\s]*\)|(?=[\s.,;:)]|$))(?<!\d\])"), r"\1"),  # Markdown link; [1] stays
    (re.compile(r"\s*\[[\w#*-]+\]_(?!\w)"), ""),  # footnote mark
    (re.compile(r"``([^`]*)``|`(?:~\.?|\.(?=[a-zA-Z]))?([^`]*)`_{0,2}"), r"\1\2"),  # code
    (re.compile(r"(?<![\w*\\])(\*{1,2})(?=[^\s*])([^*\n]*[^\s*])\1(?![\w*])"), r"\2"),  # emphasis
    (re.compile(r"\\([*`_| ]|s\b)"), r"\1"),  # escape
    (re.compile(r" {2,}"), " "),
]

Kind = Literal["blank", "heading", "bullet", "item", "term", "text"]


@dataclass(frozen=True, slots=True)
class _Line:
    kind: Kind
    indent: int
    text: str


def prose(text: str) -> str:
    """Return the sentences of a documentation text, a paragraph or list item on a line, without markup.

    >>> prose("Adds ``x``.\\n\\nParameters\\n----------\\nx : int\\n    A number\\n    to add.\\n\\n>>> add(1)\\n2")
    'Adds x.\\n\\nParameters:\\nx : int\\nA number to add.'
    """
    return _render(_join([_classify(line) for line in _without_blocks(text.expandtabs().split("\n"))]))


def _without_blocks(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines that are prose; headings end in a colon."""
    at = 0
    while at < len(lines):
        line, at = lines[at], at + 1
        indent = _indent(line)
        if _FENCE.match(line):
            at = next((after + 1 for after in range(at, len(lines)) if _FENCE.match(lines[after])), len(lines))
        elif _SESSION.match(line) or _TABLE_EDGE.match(line) or _TABLE_ROW.match(line):
            at = next((after for after in range(at, len(lines)) if not lines[after].strip()), len(lines))
        elif directive := _DIRECTIVE.match(line.strip()):
            end = _end_of_block(lines, at, indent)
            if directive[1].lower() in _KEPT_DIRECTIVES:
                content = [inside for inside in lines[at:end] if not _OPTION.match(inside)]
                yield from _without_blocks([" " * indent + directive[2].strip(), *content])
            at = end
        elif _COMMENT.match(line.strip()):
            at = _end_of_block(lines, at, indent)
        elif line.rstrip().endswith("::"):
            yield line.rstrip()[:-1] if line.strip() != "::" else ""
            at = _end_of_block(lines, at, indent)
        elif at < len(lines) and line.strip() and _RULER.match(lines[at]) and not _RULER.match(line):
            yield f"{line.rstrip().rstrip(':')}:"
            at += 1
        elif not _RULER.match(line):
            yield line


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _end_of_block(lines: Sequence[str], start: int, indent: int) -> int:
    """Return the index of the first line that is no longer deeper than ``indent``."""
    return next(
        (at for at in range(start, len(lines)) if lines[at].strip() and _indent(lines[at]) <= indent), len(lines)
    )


def _classify(line: str) -> _Line:
    indent, text = _indent(line), line.strip()
    text = re.sub(r"^>+ ?|^#{1,6} +", "", text)  # Markdown's quotation and heading
    if not text or _MARKUP_LINE.match(line.strip()):
        return _Line("blank", indent, "")
    if field := _FIELD.match(text):
        return _field_line(indent, field[1], field[2].split(), text[field.end() :].strip())
    if bullet := _BULLET.match(text):
        return _Line("bullet", indent, "- " + _plain(text[bullet.end() :]))
    kind: Kind = "text"
    if _HEADING.match(text):
        kind = "heading"
    elif _ITEM.match(text):
        kind = "item"
    elif _TERM.match(text):
        kind = "term"
    return _Line(kind, indent, _plain(text))


def _field_line(indent: int, field: str, names: list[str], text: str) -> _Line:
    if field in ("type", "rtype"):
        return _Line("blank", indent, "")
    head = _FIELD_WORDS.get(field, "") + (names[-1] if names else "")
    return _Line("item", indent, f"{head}: {_plain(text)}")


def _plain(text: str) -> str:
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return text.replace("“", '"').replace("”", '"')


def _join(lines: Sequence[_Line]) -> list[_Line]:
    """Undo line wrapping."""
    joined: list[_Line] = []
    previous = _Line("blank", 0, "")
    for line in lines:
        if _continues(previous, line):
            joined[-1] = replace(joined[-1], text=f"{joined[-1].text} {line.text}")
            previous = replace(line, kind="text")
        else:
            joined.append(line)
            previous = line
    return joined


def _continues(previous: _Line, line: _Line) -> bool:
    """Tell whether a line goes on with the sentence of the one before it."""
    if previous.kind in ("blank", "heading") or line.kind in ("blank", "heading", "bullet"):
        return False
    if line.indent > previous.indent:
        return previous.kind in ("bullet", "item") and line.kind != "item"
    if line.indent < previous.indent or previous.kind == "term":
        return False
    goes_on = previous.kind == "text" and previous.text[-1:] not in ".:!?"
    return line.kind == "text" or goes_on


def _render(lines: Sequence[_Line]) -> str:
    """Put lines together, single blanks between paragraphs, without headings that have nothing under them."""
    texts: list[str] = []
    below: Kind = "heading"  # kind of the nearest line below that is not blank
    for line in reversed(lines):
        if line.kind == "blank":
            if texts and texts[-1]:
                texts.append("")
        elif line.kind != "heading":
            texts.append(line.text)
            below = line.kind
        elif below != "heading":
            if not texts[-1]:
                texts.pop()
            texts.append(line.text)
            below = "heading"
    return "\n".join(reversed(texts)).strip()


# Names

_PLACEHOLDER = "library"
_ALIASES = ("np", "pd", "plt", "mpl", "sp", "sps", "tf", "nx", "nn", "F", "hf", "jnp")
_PROJECTS = {
    "sklearn": ("scikit-learn", "scikit learn", "scikit"),
    "huggingface_hub": ("hugging face", "huggingface", "hf"),
    "matplotlib": ("pyplot",),
    "PIL": ("pillow",),
    "bs4": ("beautiful soup",),
    "cv2": ("opencv",),
    "yaml": ("pyyaml",),
    "google": ("protobuf", "protocol buffers"),
}
_PATH = re.compile(rf"(?<![\w.])(?:\w++\.)++{_PLACEHOLDER}(?!\w)")  # of org.pytorch.aten all goes
_WITHIN_WORDS = 5  # letters of a name that is also looked for inside words, as torch in PyTorch and torchvision


def mask_names(text: str, libraries: Sequence[str]) -> str:
    """Replace every name that gives a library away by the word "library", so that a classifier must read the rest.

    Covered are import names, in any case and inside longer words (``PyTorch``), with all that is joined to them by
    dots (``sklearn.linear_model.Ridge``); names of projects (``scikit-learn``); usual aliases before a dot (``np.``);
    modules of the standard library before a dot (``os.path``), since many are ordinary words; and web addresses.

    Args:
        libraries: all the libraries between which a classifier must choose, not the right one alone.
    """
    return _PATH.sub(_PLACEHOLDER, _names(tuple(sorted(libraries))).sub(_PLACEHOLDER, text))


@cache
def _names(libraries: tuple[str, ...]) -> re.Pattern[str]:
    words: list[str] = []
    before_dot = list(_ALIASES)
    for library in libraries:
        if library == STANDARD_LIBRARY:
            before_dot += sorted(sys.stdlib_module_names)
            words += ["stdlib", "standard library", "cpython"]
            continue
        for name in (library, *_PROJECTS.get(library, ())):
            spelled = re.escape(name).replace("_", "[_-]?")
            words.append(rf"\w*{spelled}\w*" if len(name) >= _WITHIN_WORDS else spelled)
    dotted = r"(?:\.\w+)"
    named = f"(?:{'|'.join(words)}){dotted}*" if words else "(?!)"
    alias = f"(?-i:{'|'.join(map(re.escape, before_dot))}){dotted}+"
    return re.compile(rf"https?://\S+|(?<!\w)(?:{named}|(?<!\.){alias})(?:'s)?(?!\w)", re.IGNORECASE)
