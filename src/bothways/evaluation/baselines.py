"""What a model must beat: TF-IDF with logistic regression, the frequencies of tokens, a packer of files."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.language import word_list
from bothways.metrics.bits_per_byte import bits_per_byte
from bothways.text.shards import Corpus


def tfidf_logistic_regression(
    train: Sequence[str], labels: Sequence[str], test: Sequence[str], *, seed: int = 0
) -> list[str]:
    """Return the labels that logistic regression over TF-IDF of word unigrams and bigrams gives to ``test``."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    vectorizer = TfidfVectorizer(analyzer=_unigrams_and_bigrams, sublinear_tf=True, min_df=2)
    pipeline = make_pipeline(vectorizer, LogisticRegression(max_iter=1000, C=10.0, random_state=seed))
    pipeline.fit(list(train), list(labels))
    return [str(label) for label in pipeline.predict(list(test))]


def _unigrams_and_bigrams(text: str) -> list[str]:
    found = word_list(text)
    return [*found, *(f"{first} {second}" for first, second in pairwise(found))]


def unigram_bits_per_byte(train: Corpus, test: Corpus, vocab_size: int) -> float:
    """Return the bits per byte of ``test`` under the token frequencies of ``train``, one added to each count."""
    counts = train.token_counts(vocab_size) + 1.0
    nats: NDArray[Any] = -np.log(counts / counts.sum())
    return bits_per_byte(nats=float(nats @ test.token_counts(vocab_size)), num_bytes=test.num_bytes)


def most_frequent_share(train: Corpus, tokens: NDArray[Any], vocab_size: int) -> float:
    """Return how often the commonest token of ``train`` is right at ``tokens``."""
    commonest = int(train.token_counts(vocab_size).argmax())
    return float((np.asarray(tokens) == commonest).mean())


def xz_bits_per_byte(texts: Sequence[str]) -> float:
    """Return the bits per byte that ``xz -9e`` needs for the texts as one stream."""
    import lzma

    stream = "\n".join(texts).encode()
    return 8 * len(lzma.compress(stream, preset=9 | lzma.PRESET_EXTREME)) / len(stream)
