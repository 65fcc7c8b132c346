"""What a given tokenizer makes of text: how many tokens, in which language how many a word, what it does not know."""

from typing import Any

from bothways.advise.inspect.corpus import pieces
from bothways.advise.inspect.counting import Distribution
from bothways.text.tokenizing.fertility import Meter
from bothways.text.tokenizing.tokenizer import Tokenizer

MOST_BYTES = 32 << 20  # of text that is encoded; what is beyond is reckoned from it
CHECK_EVERY = 16  # documents of which one is decoded again


class TokenMeter:
    """Encodes documents and counts; of a large corpus the first 32 MB."""

    def __init__(self, tokenizer: Tokenizer, *, most_bytes: int = MOST_BYTES) -> None:
        self._tokenizer, self._most_bytes = tokenizer, most_bytes
        self._meter = Meter(tokenizer, check_every=CHECK_EVERY)
        self._bytes = 0
        self._per_document = Distribution()

    def add(self, text: str) -> None:
        """Encode a document, unless enough was encoded."""
        if self._bytes >= self._most_bytes:
            return
        number = 0
        for piece in pieces(text):
            ids = self._tokenizer.encode(piece)
            self._meter.add(piece, ids)
            self._bytes += len(piece.encode("utf-8", "surrogatepass"))
            number += len(ids)
        self._per_document.add(number)

    def to_dict(self, *, all_bytes: int) -> dict[str, Any]:
        """Return the figures; ``all_bytes`` is the size of the corpus, to which the number of tokens is scaled."""
        found = self._meter.fertility.to_dict()
        measured = found["tokens"]
        return {
            **found,
            "kind": self._tokenizer.kind,
            "vocab_size": len(self._tokenizer),
            "tokens": round(measured * all_bytes / max(1, self._bytes)),
            "tokens_measured": measured,
            "bytes_measured": self._bytes,
            "unknown_examples": [
                [f"{each['character']} {each['code_point']}", each["texts"]] for each in found["unknown_characters"]
            ],
            "tokens_per_document": self._per_document.to_dict(),
        }
