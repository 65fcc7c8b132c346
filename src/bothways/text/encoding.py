"""Documents to token ids, with their sentences."""

from collections.abc import Iterable, Iterator

import numpy as np

from bothways.language import sentences
from bothways.text.shards import EncodedDocument
from bothways.text.tokenizer import Tokenizer, in_batches


def encode_documents(texts: Iterable[str], tokenizer: Tokenizer, *, batch_size: int = 256) -> Iterator[EncodedDocument]:
    """Encode whole documents and find the token at which each sentence begins.

    A document is encoded as one text, so its ids are exactly what ``tokenizer.json`` gives.
    """
    for batch in in_batches(texts, batch_size):
        for text, encoding in zip(batch, tokenizer.encodings(batch), strict=True):
            token_starts = np.array([start for start, _ in encoding.offsets], dtype=np.int64)
            sentence_starts = np.array([start for start, _ in sentences(text)], dtype=np.int64)
            first_tokens = np.unique(np.searchsorted(token_starts, sentence_starts))
            yield EncodedDocument(
                input_ids=np.array(encoding.ids, dtype=np.int64),
                sentence_starts=first_tokens[first_tokens < len(token_starts)],
                num_bytes=len(text.encode("utf-8", "surrogatepass")),
            )
