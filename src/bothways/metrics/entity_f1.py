"""Entity F1: how many names of people, places and things are found whole and called what they are, for tagged words."""

from collections.abc import Sequence
from dataclasses import dataclass

from bothways.metrics.metric import check_pairs

HIGHER_IS_BETTER = True


@dataclass(frozen=True, kw_only=True)
class EntityScores:
    """The three figures over all entities of all texts, each from 0 to 1.

    Attributes:
        f1: harmonic mean of the other two.
        precision: share of the predicted entities that are right.
        recall: share of the true entities that are found.
    """

    f1: float
    precision: float
    recall: float


def entity_f1(predicted_tags: Sequence[Sequence[str]], true_tags: Sequence[Sequence[str]]) -> EntityScores:
    """Return F1, precision and recall of whole entities: one with a wrong border or type is wrong.

    Tags are ``O``, or a type with ``B-`` (first word), ``I-`` (further ones), ``E-`` (last) or ``S-`` (only word) before it, as
    IOB1, IOB2 and IOBES write them; a type alone is read as ``I-``. As in the evaluation of CoNLL-2000 and in seqeval, an
    ``I-`` that follows nothing of its type begins an entity.

    Args:
        predicted_tags: for each text the tags of its words.
        true_tags: the same, of the truth.
    Raises:
        UserError: empty input, unequal numbers of texts, or of words in a text.
    """
    check_pairs(predicted_tags, true_tags)
    for predicted, true in zip(predicted_tags, true_tags, strict=True):
        check_pairs(predicted, true)
    found, right = (
        {(number, *entity) for number, tags in enumerate(texts) for entity in entities(tags)}
        for texts in (predicted_tags, true_tags)
    )
    both = len(found & right)
    if not found and not right:
        return EntityScores(f1=1.0, precision=1.0, recall=1.0)  # that there is none was seen
    return EntityScores(
        f1=2 * both / (len(found) + len(right)),
        precision=both / len(found) if found else 0.0,
        recall=both / len(right) if right else 0.0,
    )


def entities(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return the entities of a text: first word, word after the last one, type.

    >>> entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [(0, 2, 'PER'), (3, 4, 'LOC'), (4, 5, 'LOC')]
    """
    found: list[tuple[int, int, str]] = []
    open_type: str | None = None
    for place, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-") if tag[:2] in ("B-", "I-", "E-", "S-") else ("I", "", tag)
        if tag == "O":
            open_type = None
        elif prefix in "BS" or kind != open_type:
            found.append((place, place + 1, kind))
            open_type = kind
        else:
            first, _, _ = found.pop()
            found.append((first, place + 1, kind))
        if prefix in "ES" and tag != "O":
            open_type = None
    return found
