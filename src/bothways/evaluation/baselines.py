"""What a model must beat: TF-IDF with logistic regression, BM25 and an n-gram of order one, each from a well-kept library."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways.language import word_list
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
    return [*found, *(f"{first} {second}" for first, second in zip(found, found[1:], strict=False))]


def unigram_nats(train: Corpus, test: Sequence[Corpus], vocab_size: int) -> list[float]:
    """Return the nats per token of each corpus under the token frequencies of ``train``, one added to each count."""
    counts = np.bincount(np.asarray(train.input_ids), minlength=vocab_size) + 1.0
    nats: NDArray[Any] = -np.log(counts / counts.sum())
    return [float(nats[np.asarray(corpus.input_ids)].mean()) for corpus in test]


def most_frequent_share(train: Corpus, tokens: NDArray[Any]) -> float:
    """Return how often the commonest token of ``train`` is right at ``tokens``."""
    commonest = int(np.bincount(np.asarray(train.input_ids)).argmax())
    return float((np.asarray(tokens) == commonest).mean())


def xz_bits_per_byte(texts: Sequence[str]) -> float:
    """Return the bits per byte that ``xz -9e`` needs for the texts as one stream."""
    import lzma

    stream = "\n".join(texts).encode()
    return 8 * len(lzma.compress(stream, preset=9 | lzma.PRESET_EXTREME)) / len(stream)
