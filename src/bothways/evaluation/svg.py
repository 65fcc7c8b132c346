"""Matplotlib's figures as clean SVG text: what every chart here has in common.

What matplotlib writes is put in the shape that a page wants: text stays text, so that the reader's own fonts draw
Chinese too; colors are presentation attributes, which a style sheet overrides on a dark screen (``dark_style``); there
is no inline style, script, reference to elsewhere, date or random id, so that a strict Content-Security-Policy holds
and the same figures give the same bytes.
"""

import hashlib
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

# name: color on light paper, color on a dark screen. Light colors must differ: the dark style finds them by value.
PALETTE = {
    "ink": ("#1b2333", "#e7eaf1"),
    "muted": ("#667085", "#9aa4b5"),
    "grid": ("#e3e7ee", "#2c3444"),
    "gpt": ("#2f6fde", "#7fb0ff"),
    "gpt_twin": ("#a9c6f5", "#3c5f98"),
    "bert": ("#d0592b", "#ff9f6b"),
    "bert_twin": ("#f0bfa5", "#8f5433"),
    "baseline": ("#b4bcc9", "#5d6879"),
}
FONT_SIZE = 9.5  # points

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text, not outlines
    "svg.hashsalt": "bothways",  # ids by content
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "axes.unicode_minus": False,
    "font.size": FONT_SIZE,
}
_FONTS = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'Noto Sans CJK SC', 'Microsoft YaHei', sans-serif"
_ON_DARK = "@media screen and (prefers-color-scheme:dark)"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@contextmanager
def drawing() -> Iterator[None]:
    """The settings under which charts are drawn and written, whatever the user's own matplotlib settings are."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Only the layout asks matplotlib's own font, which has no Chinese; the browser draws the text.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def to_svg(figure: Figure, *, title: str) -> str:
    """Write a figure, inside ``drawing()``, as one ``<svg>`` element for a page; ``title`` is what is read aloud."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    key = hashlib.sha256((clean(title) + buffer.getvalue()).encode()).hexdigest()[:8]
    _tidy(root, key)
    width, height = root.get("width", ""), root.get("height", "")
    root.attrib = {"viewBox": root.get("viewBox", "")}
    root.attrib |= {"width": width, "height": height, "role": "img", "aria-label": clean(title), "font-family": _FONTS}
    return ElementTree.tostring(root, encoding="unicode").strip()


def standalone(svg: str) -> str:
    """The content of an SVG file: the element with its namespace, its dark style and, in both, a ground to stand on."""
    start, rest = svg.split(">", 1)
    style = f"svg{{background:#ffffff}}\n{dark_style()}\n{_ON_DARK}{{svg{{background:#181e29}}}}"
    return f'{start} xmlns="http://www.w3.org/2000/svg"><style>{style}</style>{rest}\n'


def dark_style() -> str:
    """CSS rules that recolor the charts on a dark screen."""
    rules = [
        f'svg [{attribute}="{light}"]{{{attribute}:{dark}}}'
        for light, dark in PALETTE.values()
        for attribute in ("fill", "stroke")
    ]
    return f"{_ON_DARK}{{\n" + "\n".join(rules) + "\n}"


def color(name: str) -> str:
    """The color of ``PALETTE`` that is drawn."""
    return PALETTE[name][0]


def clean(text: str) -> str:
    """``text`` on one line, what XML cannot hold replaced."""
    return _NOT_XML.sub("\ufffd", " ".join(text.split()))


def _tidy(root: ElementTree.Element, key: str) -> None:
    """Drop metadata and style elements and every id that nothing refers to; make the others this chart's own."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    written = [value for element in root.iter() for value in element.attrib.values()]
    used = {name for value in written for name in re.findall(r"#([^)]+)\)?$", value)}
    for element in root.iter():
        element.tag = element.tag.split("}")[-1]
        element.attrib = dict(_attributes(element, key, used))
        if element.tag != "text":
            element.text = None
        element.tail = None


def _attributes(element: ElementTree.Element, key: str, used: set[str]) -> Iterator[tuple[str, str]]:
    """An element's attributes without namespaces, its style taken apart into attributes of their own."""
    for name, value in element.attrib.items():
        name = name.split("}")[-1]
        if name == "id":
            if value in used:
                yield name, f"{key}-{value}"
        elif name == "style":
            declarations = [declaration.split(":", 1) for declaration in value.split(";") if ":" in declaration]
            yield from ((prop.strip(), given.strip()) for prop, given in declarations if prop.strip() != "font-family")
        elif name == "d":
            yield name, " ".join(value.split())
        else:
            yield name, re.sub(r"#(?=[pm]\w+\)?$)", f"#{key}-", value)
