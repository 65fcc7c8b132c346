"""Long documents in pieces, so that a training that reads part of a corpus reads some of every document.

A model that has read all of thirty books knows less of the next one than a model that has read as much of a thousand
(docs/experiments.md).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bothways.text.shards import Corpus, Shard

SHORTEST_PIECE = 512  # tokens


def piece_size(row_length: int) -> int:
    """Return about how many tokens a piece has where rows have so many."""
    return max(SHORTEST_PIECE, 2 * row_length)


class Pieces(Corpus):
    """A corpus whose documents are pieces of those of another, cut between sentences."""

    def __init__(self, corpus: Corpus, tokens: int) -> None:
        """Cut.

        Args:
            corpus: what is cut; its token ids are shared.
            tokens: about how many a piece has; shorter documents stay whole.
        """
        cut = [_cut(shard, tokens) for shard in corpus.shards]
        super().__init__([shard for shard, _ in cut])
        self._origins = [origins for _, origins in cut]

    def origin(self, index: int) -> tuple[int, int]:
        """Return what all pieces of a document, and no others, have in common."""
        number, at = self._place(index)
        return number, int(self._origins[number][at])

    def token_before(self, index: int) -> int | None:
        """Return the token before a piece in its document; None where the document begins."""
        number, at = self._place(index)
        if at == 0 or self._origins[number][at - 1] != self._origins[number][at]:
            return None
        shard = self.shards[number]
        return int(shard.input_ids[shard.bounds(at)[0] - 1])

    def ends(self, index: int) -> bool:
        """Return whether a document ends with a piece."""
        number, at = self._place(index)
        origins = self._origins[number]
        return at + 1 == len(origins) or bool(origins[at + 1] != origins[at])


def _cut(shard: Shard, tokens: int) -> tuple[Shard, NDArray[np.int64]]:
    """Return a shard of pieces about equally long within a document, and [pieces] the document that each is of."""
    starts, documents = shard.sentences.astype(np.int64), shard.documents.astype(np.int64)
    sizes = np.diff(starts[documents])
    origins = np.repeat(np.arange(len(sizes)), np.diff(documents))  # of each sentence
    pieces = np.maximum(1, np.rint(sizes / tokens).astype(np.int64))
    within = starts[:-1] - starts[documents[:-1]][origins]
    numbers = within * pieces[origins] // sizes[origins]  # of the piece that a sentence is in
    fresh = (np.diff(origins, prepend=-1) != 0) | (np.diff(numbers, prepend=-1) != 0)
    first = np.flatnonzero(fresh)
    bounds = np.append(first, len(origins))
    share = np.diff(starts[bounds]) / sizes[origins[first]]
    size = np.rint(shard.document_bytes[origins[first]] * share).astype(np.int64)
    return replace(shard, documents=bounds, document_bytes=size), origins[first]
