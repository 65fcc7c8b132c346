"""The doctor's page: one HTML file that loads nothing, in the look of the reports of runs.

Texts and names come from files that nobody vouches for. The page is escaped throughout, and its Content-Security-Policy
allows nothing but its own style sheet: no script, no image, no network.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from bothways.advise.inspect.findings import LEVELS, Finding
from bothways.advise.inspect.layout import in_words, is_number
from bothways.advise.inspect.sections import headline, sections
from bothways.evaluation import report
from bothways.evaluation.svg import dark_style
from bothways.evaluation.wording import compact, size

_HERE = Path(__file__).parent
TITLES = {
    "text": "What is in your text",
    "data": "What is in your prepared data",
    "examples": "What is in your examples",
}


def render_page(figures: Mapping[str, Any], findings: Sequence[Finding]) -> str:
    """Return the page as text."""
    style = "".join(
        (Path(report.__file__).with_name("report.css"), _HERE / "page.css")[at].read_text("utf-8") for at in (0, 1)
    )
    style += dark_style()
    return _template().render(
        title=TITLES[figures["kind"]],
        paths=figures["paths"],
        task=figures.get("task"),
        version=figures["bothways"],
        findings=findings,
        levels={level: sum(finding.level == level for finding in findings) for level in LEVELS},
        headline=headline(figures),
        sections=sections(figures),
        style=Markup(style),  # ours, not the corpus's
        policy=_policy(style),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"compact": compact, "size": size, "in_words": in_words}
    environment.tests |= {"quantity": is_number}
    return environment.get_template("page.html")


def _policy(style: str) -> str:
    """Return a Content-Security-Policy under which only this very style sheet has effect."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
