"""Where BERT's tokenizer must end a word, whatever stands around the place.

``BertNormalizer`` and ``BertPreTokenizer`` look at one word at a time, so a text can be cut at such places and each
distinct chunk handled once. The places are:

* before white space that the normaliser turns into a space: tab, line feed, carriage return, and all of Unicode's
  separators. It deletes the other characters that Python calls white space (``\\x0b \\x0c \\x1c-\\x1f \\x85``), and so joins
  what stands beside them: these are no places to cut;
* on both sides of a CJK ideograph, around which it puts spaces (the library's own ranges, which are not all ideographs);
* on both sides of ASCII punctuation, which is always a word of its own.

Nothing that the normaliser does reaches across such a place: decomposition and lower case go character by character,
marks are ordered only among themselves, and a mark that opens a chunk is taken or stripped as it would be after a space.
"""

import re
from collections.abc import Iterator

_SPACE = "\t\n\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_IDEOGRAPH = (  # the ranges of BertNormalizer
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f\U0002b920-\U0002ceaf\U0002f800-\U0002fa1f"
)
_ALONE = rf"{_IDEOGRAPH}!-/:-@\[-`{{-~"  # ideographs and the punctuation of ASCII

# A partition of the text. One space before a word goes with it, since that is how most words come.
CHUNK = re.compile(f"[{_SPACE}]?(?:[^{_SPACE}{_ALONE}]++|[{_ALONE}])|[{_SPACE}]")
BARE_CHUNK = re.compile(f"[^{_SPACE}{_ALONE}]++|[{_ALONE}]")  # without the white space
_BOUNDARY = re.compile(f"[{_SPACE}{_ALONE}]")


def pieces(text: str, size: int) -> Iterator[tuple[int, int]]:
    """Cut a text where a chunk begins, into pieces (start, stop) of ``size`` characters and little more.

    A piece is longer only by the rest of the chunk that is in its way.
    """
    start = 0
    while start < len(text):
        boundary = _BOUNDARY.search(text, start + size)
        stop = boundary.start() if boundary else len(text)
        yield start, stop
        start = stop
