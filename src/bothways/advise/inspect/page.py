"""The doctor's page: one HTML file that loads nothing, in the look of the reports of runs.

Texts and names come from files that nobody vouches for. The page is escaped throughout, and its Content-Security-Policy
allows nothing but its own style sheet: no script, no image, no network.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template
from markupsafe import Markup

from bothways.advise.inspect.findings import LEVELS, Finding
from bothways.advise.inspect.layout import in_words, is_number
from bothways.advise.inspect.sections import headline, sections
from bothways.evaluation import pages, report
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
        policy=pages.policy(style),
    )


@cache
def _template() -> Template:
    environment = pages.environment(_HERE)
    environment.filters |= {"compact": compact, "size": size, "in_words": in_words}
    environment.tests |= {"quantity": is_number}
    return environment.get_template("page.html")
