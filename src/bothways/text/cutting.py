"""Where a long text is cut: one rule for text that is read piece by piece and for text that is held whole."""

LONGEST = 100_000  # characters of a document; longer ones are cut between paragraphs

# After the last paragraph's end in the second half of what a piece may hold; without one, after a line, and so on.
_MARKS = (("\n\n",), ("\n",), ("。", "！", "？", ". ", "! ", "? "), (" ",))


def cut_place(text: str, start: int, most: int = LONGEST) -> int:
    """Return where the piece ends that begins at ``start``, of a text that goes on for over ``most`` characters.

    Only ``text[start : start + most]`` is looked at, so that the pieces are the same however much of the text is there.
    """
    middle, stop = start + most // 2, start + most
    for marks in _MARKS:
        if (
            place := max((at + len(mark) for mark in marks if (at := text.rfind(mark, middle, stop)) >= 0), default=0)
        ) > 0:
            return place
    return stop


def cut(text: str, most: int = LONGEST) -> list[str]:
    """Return the pieces of a text, none over ``most`` characters; joined they are the text."""
    pieces, start = [], 0
    while len(text) - start > most:
        end = cut_place(text, start, most)
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]
