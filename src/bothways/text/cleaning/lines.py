"""Tidying of lines within one document: white space at their ends, blank ones, repeated ones, boilerplate.

Lines end with ``\\n``. Every function returns the very text it was given where there is nothing to do.
"""

import re
from collections import Counter
from collections.abc import Callable, Set

_BLOCK = 1 << 18  # characters: lines are listed a block at a time
_BLANKS = " \t\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_TRAILING = re.compile(f"\n(?<=[{_BLANKS}]\n)")  # a line end first: the search skips from one to the next


def strip_line_ends(text: str) -> str:
    """Remove tabs and spaces of any width before line ends and at the end of the text."""
    if not _TRAILING.search(text) and not text.endswith(tuple(_BLANKS)):
        return text
    blocks, start = [], 0
    while start < len(text):
        stop = text.find("\n", start + _BLOCK) + 1 or len(text)
        blocks.append("\n".join([line.rstrip(_BLANKS) for line in text[start:stop].split("\n")]))
        start = stop
    return "".join(blocks)


def cut_blank_lines(text: str, most: int) -> str:
    """Cut runs of empty lines to ``most``, and to none at the beginning and the end of the text; one final line end stays."""
    result = text.lstrip("\n")
    run = "\n" * (most + 2)
    if run in result:
        result = re.sub(f"{run}\n*+", run[1:], result)
    if result.endswith("\n\n"):
        result = result.rstrip("\n") + "\n"
    return text if len(result) == len(text) else result


def drop_boilerplate(text: str, boilerplate: Set[str]) -> str:
    """Drop the lines that are in ``boilerplate``, whatever white space stands around them."""
    return _without(text, lambda line: line.strip() in boilerplate)


def drop_repeated_lines(text: str, most: int) -> str:
    """Keep only the first of the lines that occur more than ``most`` times; blank lines do not count."""
    counts = Counter(filter(None, map(str.strip, text.split("\n"))))
    repeated = {line for line, count in counts.items() if count > most}
    if not repeated:
        return text
    seen: set[str] = set()

    def again(line: str) -> bool:
        key = line.strip()
        if key not in repeated:
            return False
        seen_before = key in seen
        seen.add(key)
        return seen_before

    return _without(text, again)


def drop_consecutive_lines(text: str) -> str:
    """Keep one of several equal lines that follow each other; blank lines do not count."""
    previous = ""

    def again(line: str) -> bool:
        nonlocal previous
        same, previous = line == previous, line
        return same and not (line == "" or line.isspace())

    return _without(text, again)


def _without(text: str, drop: Callable[[str], bool]) -> str:
    lines = text.split("\n")
    kept = [line for line in lines if not drop(line)]
    return text if len(kept) == len(lines) else "\n".join(kept)
