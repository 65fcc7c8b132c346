"""Cleans documents and filters them, each step on or off, and counts all it does.

``Cleaner(Cleaning()).clean(text)`` returns the cleaned text, or None for a document that a filter drops. The steps come
in the order of the fields of ``Cleaning``: characters first, then lines, then the filters, which judge the cleaned text.
Cleaning a clean text changes nothing.
"""

from collections.abc import Callable, Set
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

from bothways.config import Config
from bothways.errors import UserError, unknown
from bothways.language import Language, resolve
from bothways.text.cleaning import characters, lines
from bothways.text.cleaning.filtering import Figures

_EXAMPLES = 5  # dropped documents that a report shows for each filter
_EXAMPLE_LENGTH = 80  # characters
_ROUNDS = 20  # in practice two: a repair may lay bare what another step repairs


@dataclass(frozen=True, kw_only=True)
class Cleaning(Config):
    """What is cleaned and what is dropped. The defaults never harm good text, and drop only what is empty."""

    mojibake: bool = True
    """Repair UTF-8 that was read in a wrong encoding (``â€™`` for ``’``), by ftfy and where it is certain."""
    line_ends: bool = True
    """Turn CR LF, CR, form feeds, U+0085, U+2028 and U+2029 into line feeds."""
    control_characters: bool = True
    """Remove control characters, terminal escapes, zero-width spaces, soft hyphens, byte order and direction marks,
    surrogates and noncharacters. Joiners stay in emoji and in the scripts that need them. Line ends are left to
    ``line_ends``."""
    private_use: bool = False
    """Remove private use characters. Off, since old Chinese text has rare characters there; a web page has icons."""
    unicode: Literal["none", "NFC", "NFKC"] = "NFC"
    """Give every character one spelling, and cut stacks of more than 30 accents. NFC changes nothing that is seen. NFKC
    also turns full-width and other variant forms into plain ones, Chinese ``，`` into ``,``: not for Chinese."""
    trailing_space: bool = True
    """Remove white space at the end of lines. Indents stay, the ideographic space U+3000 too."""
    boilerplate_documents: int | None = None
    """Remove lines that stand in at least so many documents of the corpus. Off, since it takes two more passes and
    the right number depends on the corpus."""
    repeated_lines: int | None = None
    """Of lines that occur more often than this in a document (separators, menus), keep the first. Off: refrains."""
    consecutive_lines: bool = False
    """Of equal lines in a row, keep one. Off: refrains, and code."""
    blank_lines: int | None = 2
    """Keep at most so many blank lines in a row, and none at either end. Two are common between chapters."""

    min_characters: int = 1
    """Drop shorter documents, white space at either end not counted. At least 1: an empty text teaches nothing."""
    max_characters: int | None = None
    """Drop longer documents. Off: a book is no mistake."""
    language_share: float | None = None
    """Drop documents in which fewer of the letters are of the corpus' language (``en``: Latin, ``zh``: ideographs)."""
    max_symbol_share: float | None = None
    """Drop documents with a larger share of punctuation and symbols in what is not white space. Novels have 0.05,
    Chinese 0.1, code up to 0.4."""
    max_digit_share: float | None = None
    """Drop documents with a larger share of digits."""
    min_word_length: float | None = None
    """Drop documents with a smaller mean number of characters between spaces. Not applied to Chinese."""
    max_word_length: float | None = None
    """Drop documents with a larger one. Gopher keeps 3 to 10. Not applied to Chinese."""
    max_repeated_lines: float | None = None
    """Drop documents in which a larger share of lines repeat an earlier one. Gopher keeps up to 0.3."""
    min_unique_words: float | None = None
    """Drop documents with fewer different words in 100 in a row. Prose has 0.6 to 0.8, in both languages."""
    max_phrase_share: float | None = None
    """Drop documents of which the most frequent phrase of three words is a larger share. Gopher keeps up to 0.18."""

    def __post_init__(self) -> None:
        _at_least(2, boilerplate_documents=self.boilerplate_documents)
        _at_least(1, repeated_lines=self.repeated_lines, min_characters=self.min_characters)
        _at_least(0, blank_lines=self.blank_lines, min_word_length=self.min_word_length)
        _at_least(self.min_characters, max_characters=self.max_characters)
        _at_least(self.min_word_length or 0, max_word_length=self.max_word_length)
        if self.unicode not in ("none", "NFC", "NFKC"):
            raise unknown("value for unicode:", self.unicode, ("none", "NFC", "NFKC"))
        for name in _SHARES:
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise UserError(f"{name} is a share from 0 to 1, or none to leave the filter off; not {share}")

    @classmethod
    def web(cls) -> "Cleaning":
        """Return settings for scraped pages, with filters a little more lenient than Gopher's."""
        return cls(
            private_use=True,
            repeated_lines=5,
            consecutive_lines=True,
            min_characters=100,
            max_symbol_share=0.4,
            max_digit_share=0.3,
            min_word_length=3,
            max_word_length=10,
            max_repeated_lines=0.3,
            min_unique_words=0.3,
            max_phrase_share=0.25,
        )


_SHARES = (
    "language_share",
    "max_symbol_share",
    "max_digit_share",
    "max_repeated_lines",
    "min_unique_words",
    "max_phrase_share",
)


def _at_least(least: float, **settings: float | None) -> None:
    for name, value in settings.items():
        if value is not None and not value >= least:
            raise UserError(f"{name} must be at least {least}, not {value}")


@dataclass(kw_only=True)
class StepCount:
    """What one step did."""

    documents: int = 0
    """That it changed."""
    characters: int = 0
    """That it removed, less those it added (NFKC makes three points of an ellipsis)."""
    lines: int = 0
    """That it removed, less those it added."""


@dataclass(frozen=True, order=True, kw_only=True)
class Dropped:
    """A document that a filter dropped."""

    source: str
    start: str
    """Its first 80 characters."""
    value: float
    """The figure that the filter did not accept."""


@dataclass(kw_only=True)
class CleaningReport:
    """What became of every document: ``documents == kept + sum(dropped.values())``.

    Characters too: ``characters == characters_kept + characters_dropped + sum(step.characters for step in steps.values())``.
    """

    documents: int = 0
    kept: int = 0
    changed: int = 0
    """Documents that some step changed, dropped ones among them."""
    characters: int = 0
    """Before cleaning."""
    characters_kept: int = 0
    characters_dropped: int = 0
    """In dropped documents, after cleaning."""
    steps: dict[str, StepCount] = field(default_factory=dict)
    """By the name of the setting; only steps that changed something."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Documents by the name of the filter that dropped them, the first of those that would have."""
    examples: dict[str, list[Dropped]] = field(default_factory=dict)
    """By filter, the first five in the order of their sources."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "CleaningReport":
        """Read what ``to_dict`` returned."""
        steps = {name: StepCount(**step) for name, step in values["steps"].items()}
        examples = {name: [Dropped(**shown) for shown in group] for name, group in values["examples"].items()}
        return cls(**{**values, "steps": steps, "examples": examples})

    def add(self, other: "CleaningReport") -> None:
        """Add what was done to other documents. Reports can be added in any order."""
        for name in ("documents", "kept", "changed", "characters", "characters_kept", "characters_dropped"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, step in other.steps.items():
            self.count_step(name, step.documents, step.characters, step.lines)
        for name, number in other.dropped.items():
            self.dropped[name] = self.dropped.get(name, 0) + number
            self._show(name, other.examples[name])

    def count_step(self, name: str, documents: int, characters: int, lines: int) -> None:
        """Count what a step did."""
        step = self.steps.setdefault(name, StepCount())
        step.documents += documents
        step.characters += characters
        step.lines += lines

    def count_dropped(self, name: str, dropped: Dropped) -> None:
        """Count a document that a filter dropped."""
        self.dropped[name] = self.dropped.get(name, 0) + 1
        self._show(name, [dropped])

    def _show(self, name: str, dropped: list[Dropped]) -> None:
        self.examples[name] = sorted(self.examples.get(name, []) + dropped)[:_EXAMPLES]


class Cleaner:
    """Cleans one document after the other, and counts in ``report``.

    Args:
        cleaning: what to do.
        language: of the corpus; ``"auto"`` judges each document.
        boilerplate: the lines that ``boilerplate_lines`` found. Leave it out in the passes that look for them.
    Raises:
        UserError: ``language_share`` is set for no certain language, or there is no such language.
    """

    def __init__(self, cleaning: Cleaning, *, language: Language = "auto", boilerplate: Set[str] = frozenset()) -> None:
        if language not in ("auto", "en", "zh"):
            raise unknown("language", language, ("auto", "en", "zh"))
        if cleaning.language_share is not None and language == "auto":
            raise UserError("language_share needs the language of the corpus: give language en or zh")
        self.report = CleaningReport()
        self._mojibake = cleaning.mojibake
        self._unusual, self._others = _steps(cleaning, boilerplate)
        self._filters = _filters(cleaning, language)

    def clean(self, text: str, source: str = "") -> str | None:
        """Return the cleaned text, or None if a filter drops it; ``source`` names it in the report."""
        report = self.report
        report.documents += 1
        report.characters += len(text)
        text = self._cleaned(text)
        figures = Figures(text)
        for name, refused in self._filters:
            value = refused(figures)
            if value is not None:
                shown = Dropped(source=source, start=text[:_EXAMPLE_LENGTH], value=value)
                report.count_dropped(name, shown)
                report.characters_dropped += len(text)
                return None
        report.kept += 1
        report.characters_kept += len(text)
        return text

    def _cleaned(self, text: str) -> str:
        """Apply the steps until the text stays as it is, which it mostly does at once."""
        changes: dict[str, tuple[int, int]] = {}
        for _ in range(_ROUNDS):
            result = self._round(text, changes)
            if result is text:
                break
            text = result
        for name, (characters_removed, lines_removed) in changes.items():
            self.report.count_step(name, 1, characters_removed, lines_removed)
        self.report.changed += bool(changes)
        return text

    def _round(self, text: str, changes: dict[str, tuple[int, int]]) -> str:
        if self._mojibake:
            text = _apply("mojibake", characters.repair_encoding, text, changes)
        if not characters.is_usual(text):
            for name, step in self._unusual:
                text = _apply(name, step, text, changes)
        for name, step in self._others:
            text = _apply(name, step, text, changes)
        return text


Step = Callable[[str], str]
Filter = Callable[[Figures], float | None]


def _apply(name: str, step: Step, text: str, changes: dict[str, tuple[int, int]]) -> str:
    result = step(text)
    if result is not text:
        removed, lines_removed = changes.get(name, (0, 0))
        changes[name] = (
            removed + len(text) - len(result),
            lines_removed + text.count("\n") - result.count("\n"),
        )
    return result


def _steps(cleaning: Cleaning, boilerplate: Set[str]) -> tuple[list[tuple[str, Step]], list[tuple[str, Step]]]:
    """Return by name the steps that only unusual characters need, then the others."""
    unusual: dict[str, Step] = {}
    others: dict[str, Step] = {}
    if cleaning.line_ends:
        unusual["line_ends"] = characters.unify_line_ends
    if cleaning.control_characters:
        unusual["control_characters"] = characters.remove_control_characters
    if cleaning.private_use:
        unusual["private_use"] = characters.remove_private_use
    if cleaning.unicode != "none":
        form = cleaning.unicode
        unusual["unicode"] = lambda text: characters.normalise(characters.cut_stacked_marks(text), form)
        others["unicode"] = partial(characters.normalise, form=form)
    if cleaning.trailing_space:
        others["trailing_space"] = lines.strip_line_ends
    if boilerplate:
        others["boilerplate_documents"] = partial(lines.drop_boilerplate, boilerplate=boilerplate)
    if cleaning.repeated_lines is not None:
        others["repeated_lines"] = partial(lines.drop_repeated_lines, most=cleaning.repeated_lines)
    if cleaning.consecutive_lines:
        others["consecutive_lines"] = lines.drop_consecutive_lines
    if cleaning.blank_lines is not None:
        others["blank_lines"] = partial(lines.cut_blank_lines, most=cleaning.blank_lines)
    return list(unusual.items()), list(others.items())


def _filters(cleaning: Cleaning, language: Language) -> list[tuple[str, Filter]]:
    """Return by name the filters that are on, cheap ones first; each returns the figure that it does not accept."""

    def word_length(figures: Figures) -> float | None:
        # Chinese puts no space between words, so that the length between spaces says nothing about it.
        return None if resolve(figures.text, language) == "zh" else figures.mean_word_length

    def share_of_language(figures: Figures) -> float:
        assert language != "auto"
        return figures.language_share(language)

    settings: list[tuple[str, bool, Callable[[Figures], float | None]]] = [
        ("min_characters", False, lambda figures: figures.characters),
        ("max_characters", True, lambda figures: figures.characters),
        ("language_share", False, share_of_language),
        ("max_symbol_share", True, lambda figures: figures.symbol_share),
        ("max_digit_share", True, lambda figures: figures.digit_share),
        ("min_word_length", False, word_length),
        ("max_word_length", True, word_length),
        ("max_repeated_lines", True, lambda figures: figures.repeated_line_share),
        ("min_unique_words", False, lambda figures: figures.unique_word_share),
        ("max_phrase_share", True, lambda figures: figures.top_phrase_share),
    ]
    return [
        (name, partial(_refused, measure=measure, limit=limit, is_upper=is_upper))
        for name, is_upper, measure in settings
        for limit in [getattr(cleaning, name)]
        if limit is not None
    ]


def _refused(
    figures: Figures, *, measure: Callable[[Figures], float | None], limit: float, is_upper: bool
) -> float | None:
    value = measure(figures)
    if value is None or (value <= limit if is_upper else value >= limit):
        return None
    return value
