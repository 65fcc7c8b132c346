"""The doctor's page: whole, escaped, and loading nothing."""

import re
from html.parser import HTMLParser

import pytest

from bothways.advise.inspect.findings import warning
from bothways.advise.inspect.page import render_page
from bothways.advise.inspect.terminal import summary
from bothways.verbs.inspect import inspect

HOSTILE = "<script>alert(1)</script> & \"quotes\" 'single' <img src=http://x/y onerror=z> 中文 \u202e"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    for number in range(3):
        text = f"{HOSTILE}\n\nMenu of the <b>page</b>\n{'a line of words ' * 30} {number}.\n"
        (folder / f"<i>{number}.txt").write_text(text, encoding="utf-8")
    return inspect(folder, out=folder.parent / "page.html")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.open, self.attributes = set(), [], []

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.add(tag)
        self.attributes += [(tag, *pair) for pair in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing(found):
    page = found.out.read_text(encoding="utf-8")
    assert page == found.to_html()
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert not tags.seen & {"script", "img", "link", "iframe", "object", "i", "b"}
    for tag, name, value in tags.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("href", "src", "xlink:href"):
            assert value.startswith("#"), (tag, name, value)
    assert "url(http" not in page.replace(" ", "")
    assert re.search(r"default-src 'none'|default-src &#39;none&#39;", page)


def test_the_style_is_the_one_that_the_policy_allows(found):
    import base64
    import hashlib

    page = found.to_html()
    style = re.search(r"<style>(.*?)</style>", page, flags=re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert digest in page.replace("&#43;", "+")
    assert "prefers-color-scheme" in style


def test_texts_are_shown_escaped(found):
    page = found.to_html()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "中文" in page
    assert "&lt;i&gt;0.txt" in page


def test_every_section_and_finding_is_there(found):
    page = found.to_html()
    for title in (
        "Files and lines",
        "Languages and characters",
        "Lengths",
        "Copies and repeated lines",
        "Which model it suits",
    ):
        assert f"<h2>{title}</h2>" in page
    assert page.count('class="finding ') == len(found.findings) > 0
    assert page.count("<svg") >= 3


def test_a_hostile_finding_is_escaped(found):
    page = render_page(found.figures, [warning("<topic>", "<fact> & more", "<remedy>")])
    for name in ("topic", "Remedy", "emedy", "fact"):
        assert f"<{name}>" not in page
    assert "&lt;topic&gt;" in page


def test_a_terminal_is_sent_no_control_characters(found):
    from rich.console import Console

    figures = {**found.figures, "kinds": {"\x1b[31mred\x07": {"files": 1, "documents": 1, "bytes": 1}}}
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in summary(figures, [warning("x", "a \x1b[2J fact", "a remedy")]):
        console.print(part)
    text = console.export_text()
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "WARNING: a \ufffd[2J fact; a remedy." in text
