"""The tasks of the demonstration, each with its arms, its baselines and examples to look at."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bothways.checkpoints.checkpoint import Loaded, load
from bothways.evaluation.baselines import tfidf_logistic_regression
from bothways.inference.encode import read_tokens
from bothways.inference.sampling import Sampling
from bothways.language import sentences, words
from bothways.metrics.confusion_matrix import confusion_matrix
from bothways.metrics.distinct_n import distinct_n
from bothways.tasks.retrieval import Retrieval, bm25, collection, fused, ranked
from bothways.tasks.summarization import Summarization
from bothways.tasks.task import Prediction, get_task, precision_of, tokenizer_of, write
from bothways.text.reading.documents import Document
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.machine import default_device
from bothways.verbs.demonstration.arms import ARMS, demonstrated, figures, measure_arm
from bothways.verbs.demonstration.material import Splits
from bothways.verbs.demonstration.planning import DemoPlan

SHOWN = 6  # examples in the report
TEMPERATURES = (0.3, 0.7, 1.0)
CLOZE_WORDS = 500
CLOZE_TOKENS = 120  # around a word: before it for GPT, on both sides for BERT
EXTRACTED = 200  # passages from which BERT chooses a sentence

Figures = dict[str, Any]


def classification(splits: Splits, plan: DemoPlan, out: Path) -> Figures:
    """BERT, its twin and GPT beside the commonest label and TF-IDF with logistic regression."""
    test = splits["test"]
    expected = [example["label"] for example in test]
    arms, predictions = _trained("classification", splits, plan, out)
    task = get_task("classification").fitted_to(splits["train"])
    texts, labels = ([example[column] for example in splits["train"]] for column in ("text", "label"))
    guessed = tfidf_logistic_regression(texts, labels, [example["text"] for example in test], seed=plan.seed)
    arms["tfidf_logistic_regression"] = figures(task, [{"label": label} for label in guessed], test)
    arms["majority"] = figures(task, task.baseline(test), test)
    named = [prediction["label"] for prediction in predictions["bert"]]
    confusion = confusion_matrix(named, expected)
    return {
        "labels": sorted(set(labels)),
        "metrics": ["accuracy", "macro_f1"],
        "arms": arms,
        "confusion": {"labels": list(confusion.labels), "counts": [list(row) for row in confusion.counts]},
        "examples": [
            {"text": example["text"][:300], "reference": example["label"], "bert": label}
            for example, label in zip(test[:SHOWN], named[:SHOWN], strict=True)
        ],
        "sizes": _sizes(splits),
    }


def retrieval(splits: Splits, plan: DemoPlan, out: Path) -> Figures:
    """BERT, its twin and GPT beside BM25, and both together."""
    test, task = splits["test"], demonstrated("retrieval", splits)
    arms, predictions = _trained("retrieval", splits, plan, out)
    documents = collection(test)
    lexical = bm25([example["query"] for example in test], documents)
    arms["bm25"] = figures(task, ranked(lexical), test)
    dense = np.stack([prediction["scores"] for prediction in predictions["bert"]])
    arms["bert_with_bm25"] = figures(task, ranked(fused(dense, lexical)), test)
    return {
        "metrics": ["ndcg@10", "mrr", "recall@10"],
        "arms": arms,
        "examples": [
            {
                "query": example["query"],
                "best": documents[int(row.argmax())][:300],
                "rank": 1 + int((row > row[right]).sum()),
            }
            for example, row in zip(test[:SHOWN], dense[:SHOWN], strict=True)
            for right in [documents.index(example["document"])]
        ],
        "sizes": _sizes(splits),
    }


def summarization(splits: Splits, plan: DemoPlan, out: Path) -> Figures:
    """GPT and its twin beside the passage's first sentence."""
    test, task = splits["test"], demonstrated("summarization", splits)
    arms, predictions = _trained("summarization", splits, plan, out)
    passages = [{**example, "text": example["passage"]} for example in test]
    leads = task.baseline(passages)
    arms["lead"] = figures(task, leads, test)
    return {
        "metrics": ["rouge_l", "rouge_1", "rouge_2"],
        "arms": arms,
        "examples": [
            {
                "passage": example["text"][:500],
                "reference": example["summary"],
                "gpt": made["summary"],
                "lead": lead["summary"][:200],
            }
            for example, made, lead in list(zip(test, predictions["gpt"], leads, strict=True))[:SHOWN]
        ],
        "sizes": _sizes(splits),
    }


COMPARISONS: dict[str, Callable[[Splits, DemoPlan, Path], Figures]] = {
    "classification": classification,
    "retrieval": retrieval,
    "summarization": summarization,
}


def generation(prompts: Sequence[str], plan: DemoPlan, out: Path) -> Figures:
    """Samples of the pretrained GPT at several temperatures, and how varied they are."""
    loaded = _load(out / "gpt")
    samples, arms = [], {}
    for temperature in TEMPERATURES:
        texts = _write(loaded, prompts, temperature, plan.seed)
        samples += [
            {"temperature": temperature, "prompt": prompt, "text": text}
            for prompt, text in zip(prompts, texts, strict=True)
        ]
        arms[f"gpt_temperature_{temperature:g}"] = {"distinct_2": distinct_n(texts, n=2)}
    return {"samples": samples, "metrics": ["distinct_2"], "arms": arms}


def _write(loaded: Loaded, prompts: Sequence[str], temperature: float, seed: int) -> list[str]:
    tokenizer = tokenizer_of(loaded)
    begin = tokenizer.special_id("bos")
    ids = [[begin, *tokenizer.encode(prompt)] for prompt in prompts]
    sampling = Sampling(temperature=temperature, top_p=0.95, repetition_penalty=1.1)
    return write(loaded, ids, max_new_tokens=80, sampling=sampling, seed=seed)


def cloze(documents: Sequence[Document], out: Path) -> Figures:
    """A hidden word guessed by GPT from what stands before it and by BERT from both sides; nothing if there is none.

    Only words that are one token for both are asked for, so that neither has the easier task.
    """
    gpt, bert = _load(out / "gpt"), _load(out / "bert")
    questions = _cloze_questions(documents, tokenizer_of(gpt), tokenizer_of(bert))[:CLOZE_WORDS]
    if not questions:
        return {}
    arms = {
        "gpt": {"accuracy": _share_right(gpt, [_ask_gpt(question, tokenizer_of(gpt)) for question in questions])},
        "bert": {"accuracy": _share_right(bert, [_ask_bert(question, tokenizer_of(bert)) for question in questions])},
    }
    return {"metrics": ["accuracy"], "arms": arms, "sizes": {"test": len(questions)}}


class _Question(NamedTuple):
    before: str
    word: str  # with the space before it, if there is one
    after: str


def _cloze_questions(documents: Sequence[Document], gpt: Tokenizer, bert: Tokenizer) -> list[_Question]:
    """Return one word of each document with the text around it, chosen by position."""
    questions: list[_Question] = []
    for number, document in enumerate(documents):
        text = document.text[:4000]
        found = [(start, stop) for start, stop in words(text) if start >= 200 and stop < len(text) - 100]
        for offset in range(len(found)):
            start, stop = found[(offset + 7 * number) % len(found)]
            space = start - 1 if text[start - 1] == " " else start
            word = text[space:stop]
            if word.strip().isalpha() and len(gpt.encode(word)) == len(bert.encode(word.strip())) == 1:
                questions.append(_Question(text[max(0, space - 600) : space], word, text[stop : stop + 300]))
                break
    return questions


def _ask_gpt(question: _Question, tokenizer: Tokenizer) -> tuple[list[int], int, int]:
    """Return token ids, which of them is read, and the right answer."""
    ids = [tokenizer.special_id("bos"), *tokenizer.encode(question.before)[-CLOZE_TOKENS:]]
    return ids, len(ids) - 1, tokenizer.encode(question.word)[0]


def _ask_bert(question: _Question, tokenizer: Tokenizer) -> tuple[list[int], int, int]:
    """As ``_ask_gpt``, with half of the tokens from each side."""
    cls, sep, mask = (tokenizer.special_id(role) for role in ("cls", "sep", "mask"))
    before = tokenizer.encode(question.before)[-CLOZE_TOKENS // 2 :]
    after = tokenizer.encode(question.after)[: CLOZE_TOKENS // 2]
    return [cls, *before, mask, *after, sep], len(before) + 1, tokenizer.encode(question.word.strip())[0]


def _share_right(loaded: Loaded, asked: Sequence[tuple[list[int], int, int]]) -> float:
    ids, places, answers = zip(*asked, strict=True)
    positions = [[place] for place in places]
    guesses = read_tokens(
        loaded.model, "language_model", ids, positions=positions, precision=precision_of(loaded.model)
    )
    return float(np.mean([guess[0].argmax() == answer for guess, answer in zip(guesses, answers, strict=True)]))


def extracted(splits: Splits, out: Path) -> Figures:
    """What BERT can do for a summary: choose the sentence that is nearest to the whole passage."""
    test = splits["test"][:EXTRACTED]
    passages = [example["passage"] for example in test]
    parts = [[text[start:stop].strip() for start, stop in sentences(text)][:20] for text in passages]
    scores = Retrieval().similarity(_load(out / "retrieval-bert"), passages, [part for each in parts for part in each])
    stops = np.cumsum([len(each) for each in parts])
    predictions: list[Prediction] = []
    for row, each, stop in zip(scores, parts, stops, strict=True):
        predictions.append({"summary": each[int(row[stop - len(each) : stop].argmax())]})
    return figures(Summarization(), predictions, test)


def _load(folder: Path) -> Loaded:
    loaded = load(folder)
    loaded.model.to(default_device())
    return loaded


def _trained(
    name: str, splits: Splits, plan: DemoPlan, out: Path
) -> tuple[dict[str, Figures], dict[str, list[Prediction]]]:
    """Train and measure every arm of a task."""
    arms, predictions = {}, {}
    for arm in ARMS[name]:
        arms[arm.name], predictions[arm.name] = measure_arm(arm, name, splits, plan, out)
    return arms, predictions


def _sizes(splits: Splits) -> dict[str, int]:
    return {side: len(examples) for side, examples in splits.items()}


def side_by_side(tasks: dict[str, Figures], extractive: Figures | None) -> list[Figures]:
    """Return what GPT and BERT reach on the same tasks, after the same time of training."""
    rows = []
    for task, metric, note in (
        ("classification", "accuracy", "the same examples, the same minutes of fine-tuning"),
        ("retrieval", "ndcg@10", "the same examples, the same minutes of fine-tuning"),
        ("cloze", "accuracy", "GPT sees what stands before the word, BERT both sides"),
    ):
        if task in tasks:
            arms = tasks[task]["arms"]
            rows.append(
                {"task": task, "metric": metric, "gpt": arms["gpt"][metric], "bert": arms["bert"][metric], "note": note}
            )
    if "summarization" in tasks:
        gpt = tasks["summarization"]["arms"]["gpt"]["rouge_l"]
        bert = extractive["rouge_l"] if extractive else None
        note = "GPT writes; BERT can only choose a sentence of the passage"
        rows.append({"task": "summarization", "metric": "rouge_l", "gpt": gpt, "bert": bert, "note": note})
    return rows
