"""The demonstration's two pretrained models, measured on the test documents beside what needs no neural network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bothways.checkpoints.checkpoint import load
from bothways.evaluation.baselines import most_frequent_share, unigram_bits_per_byte, xz_bits_per_byte
from bothways.experiment import held_out_batches, make_objective
from bothways.text.reading.documents import Document
from bothways.text.shards import Corpus, Shards
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.machine import default_device
from bothways.training.validation import validate
from bothways.verbs.demonstration.planning import DemoPlan
from bothways.verbs.pretrain import Pretrained, pretrain

BERT_TEST_DOCUMENTS = 300

Figures = dict[str, Any]


def pretrained(family: str, data: Shards, test: Sequence[Document], plan: DemoPlan, out: Path) -> Figures:
    """Pretrain ``"gpt"`` or ``"bert"`` in a run of that name, and measure it on the test documents."""
    done = pretrain(plan.experiment(family), data=data.folder, out=out / family, resume=True)
    measured = _gpt(done, data, test) if family == "gpt" else _bert(done, data)
    speed = done.trained.tokens / max(done.trained.seconds, 1e-9)
    return {
        "recipe": getattr(plan, f"{family}_recipe"),
        "parameters": done.plan.parameters,
        "tokens": done.trained.tokens,
        "seconds": round(done.trained.seconds, 1),
        "tokens_per_second": round(speed, 1),
        **measured,
        "curve": [*map(dict, done.trained.curve), *(_point(each, family) for each in done.trained.evaluations)],
    }


def _gpt(done: Pretrained, data: Shards, test: Sequence[Document]) -> Figures:
    """Return bits per byte beside xz and a unigram model."""
    train, corpus = data.corpus("train"), data.corpus("test")
    found, _ = _measured(done, data, corpus, len(corpus))
    yardsticks = {
        "xz": xz_bits_per_byte([document.text for document in test]),
        "unigram": unigram_bits_per_byte(train, corpus, data.manifest["vocab_size"]),
    }
    return {"bits_per_byte": found["bits_per_byte"], "perplexity": found["perplexity"], "baselines": yardsticks}


def _bert(done: Pretrained, data: Shards) -> Figures:
    """Return masked and next-sentence accuracy beside the commonest token and chance."""
    corpus = data.corpus("test")
    found, answers = _measured(done, data, corpus, min(len(corpus), BERT_TEST_DOCUMENTS))
    share = float(answers["next_sentence"].mean())
    return {
        "masked_accuracy": found["accuracy"],
        "next_sentence_accuracy": found["next_sentence_accuracy"],
        "baselines": {
            "unigram_masked_accuracy": most_frequent_share(
                data.corpus("train"), answers["language_model"], data.manifest["vocab_size"]
            ),
            "chance_next_sentence": max(share, 1 - share),
        },
    }


def _measured(
    done: Pretrained, data: Shards, corpus: Corpus, documents: int
) -> tuple[Mapping[str, float], Mapping[str, Any]]:
    """Return the model's figures on the first documents, and the right answers of each head."""
    model = load(done.folder).model.to(default_device())
    objective = make_objective(done.experiment, Tokenizer.load(data.folder))
    batches = held_out_batches(done.experiment, objective, corpus, np.arange(documents))
    answers = {
        head: np.concatenate([batch.targets[head].value.numpy() for batch in batches]) for head in batches[0].targets
    }
    return validate(model, batches, num_bytes=int(corpus.document_bytes[:documents].sum())), answers


def _point(evaluation: Mapping[str, float], family: str) -> dict[str, float]:
    """Return an evaluation as a point of the report's curve."""
    if family == "gpt":
        return {"step": evaluation["step"], "bits_per_byte": evaluation["bits_per_byte"]}
    names = {"masked_accuracy": "accuracy", "next_sentence_accuracy": "next_sentence_accuracy"}
    return {"step": evaluation["step"], **{name: evaluation[found] for name, found in names.items()}}
