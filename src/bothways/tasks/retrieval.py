"""Which document answers a query: both become vectors, and the nearest are found."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bothways.batch import Row
from bothways.checkpoints.checkpoint import Loaded
from bothways.inference.encode import encode
from bothways.language import word_list
from bothways.metrics.ndcg import ndcg
from bothways.metrics.recall import recall
from bothways.metrics.reciprocal_rank import reciprocal_rank
from bothways.model.config import TransformerConfig
from bothways.objectives.contrastive import Contrastive, pair
from bothways.tasks.task import Example, Prediction, Task, precision_of, text_row, tokenizer_of
from bothways.text.tokenizing.tokenizer import Tokenizer

SHOWN = 100  # documents of a ranking


@dataclass(frozen=True, kw_only=True)
class Retrieval(Task):
    """A query in, documents out, best first. The collection is every distinct document among the examples."""

    INPUTS: ClassVar[Mapping[str, str]] = {"query": "what is looked for", "document": "a text of the collection"}
    ANSWERS: ClassVar[Mapping[str, str]] = {}  # an example's own document is its answer
    MONITOR: ClassVar[str] = "ndcg@10"
    PACKS_ALL: ClassVar[bool] = True
    BASELINE: ClassVar[str] = "BM25"

    query_length: int = 64
    document_length: int = 256

    def objective(self) -> Contrastive:
        """Each query nearer to its own document than to any other of the step."""
        return Contrastive()

    def render(self, example: Example, tokenizer: Tokenizer, config: TransformerConfig) -> Row:
        """Query and document as two sequences of one row, which belong together."""
        query = text_row(example["query"], tokenizer, config, max_length=self.query_length)
        document = text_row(example["document"], tokenizer, config, max_length=self.document_length)
        return pair(query, document)

    def predict(self, loaded: Loaded, examples: Sequence[Example], *, seed: int = 0) -> list[Prediction]:  # noqa: ARG002
        """Return ``ranking`` (numbers of documents, best first) and ``scores`` (of all documents) for each query."""
        documents = collection(examples)
        scores = self.similarity(loaded, [example["query"] for example in examples], documents)
        return ranked(scores)

    def similarity(self, loaded: Loaded, queries: Sequence[str], documents: Sequence[str]) -> NDArray[Any]:
        """Return the cosine of each query with each document, [queries, documents]."""
        model, tokenizer = loaded.model, tokenizer_of(loaded)
        sides = []
        for texts, length in ((queries, self.query_length), (documents, self.document_length)):
            rows = [text_row(text, tokenizer, model.config, max_length=length) for text in texts]
            sides.append(encode(model, rows, precision=precision_of(model)))
        return np.asarray(sides[0] @ sides[1].T)

    def measure(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, float]:
        """Return mean reciprocal rank, nDCG@10 and recall@10."""
        rankings, relevant = self._judged(predictions, examples)
        return {
            "mrr": reciprocal_rank(rankings, relevant, k=SHOWN),
            "ndcg@10": ndcg(rankings, relevant, k=10),
            "recall@10": recall(rankings, relevant, k=10),
        }

    def measure_each(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, list[float]]:
        """Return the same three figures for each query: it has one right document, so its rank says all."""
        rankings, relevant = self._judged(predictions, examples)
        ranks = [
            rankings[query].index(answer) + 1 if answer in rankings[query] else 0
            for query, [answer] in relevant.items()
        ]
        return {
            "mrr": [1 / rank if rank else 0.0 for rank in ranks],
            "ndcg@10": [1 / math.log2(rank + 1) if 0 < rank <= 10 else 0.0 for rank in ranks],
            "recall@10": [float(0 < rank <= 10) for rank in ranks],
        }

    def _judged(
        self, predictions: Sequence[Prediction], examples: Sequence[Example]
    ) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Return rankings and right answers, by the query's number."""
        number = {document: str(index) for index, document in enumerate(collection(examples))}
        relevant = {str(at): [number[example["document"]]] for at, example in enumerate(examples)}
        rankings = {str(at): [str(found) for found in made["ranking"]] for at, made in enumerate(predictions)}
        return rankings, relevant

    def baseline(self, examples: Sequence[Example]) -> list[Prediction]:
        """Rank by BM25."""
        return ranked(bm25([example["query"] for example in examples], collection(examples)))


def bm25(queries: Sequence[str], documents: Sequence[str]) -> NDArray[Any]:
    """Return the BM25 score of each query and document, [queries, documents], by the library bm25s.

    English is cut into words, Chinese into characters; what has neither (``:-)``) finds nothing but its like.
    """
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it reports every index it builds
    index = bm25s.BM25()
    index.index([word_list(document) or [" "] for document in documents], show_progress=False)
    return np.stack([np.asarray(index.get_scores(word_list(query) or [" "])) for query in queries])


def collection(examples: Sequence[Example]) -> list[str]:
    """Return the distinct documents, in order of appearance."""
    return list(dict.fromkeys(example["document"] for example in examples))


def ranked(scores: NDArray[Any]) -> list[Prediction]:
    """Return rankings by score; of equal ones the earlier document comes first."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :SHOWN]
    return [{"ranking": [int(index) for index in best], "scores": row} for best, row in zip(order, scores, strict=True)]


def fused(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Return the sum of two score tables [queries, documents], each query's scores brought to the same mean and spread.

    Fusing scores beats fusing ranks where both tables are informative (distribution-based score fusion).
    """
    tables = []
    for scores in (first, second):
        spread = scores.std(axis=1, keepdims=True)
        tables.append((scores - scores.mean(axis=1, keepdims=True)) / np.where(spread == 0, 1, spread))
    return np.asarray(tables[0] + tables[1])
