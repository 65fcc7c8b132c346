"""The tasks of the demonstration, each with its arms, its baselines and examples to look at."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
from bothways.tasks.task import Example, Prediction, get_task, precision_of, tokenizer_of, write
from bothways.text.documents import Document
from bothways.verbs.demonstration.arms import ARMS, demonstrated, figures, measure_arm
from bothways.verbs.demonstration.material import Splits
from bothways.verbs.demonstration.planning import DemoPlan

SHOWN = 6  # examples in the report
TEMPERATURES = (0.3, 0.7, 1.0)
CLOZE_WORDS = 500
EXTRACTED = 200  # passages from which BERT chooses a sentence

Figures = dict[str, Any]


def classification(splits: Splits, plan: DemoPlan, out: Path) -> Figures:
    """BERT, its twin and GPT beside the commonest label and TF-IDF with logistic regression."""
    test = splits["test"]
    expected = [example["label"] for example in test]
    arms, predictions, _ = _trained("classification", splits, plan, out)
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
            for example, label in list(zip(test, named, strict=True))[:SHOWN]
        ],
        "sizes": _sizes(splits),
    }


def retrieval(splits: Splits, plan: DemoPlan, out: Path) -> Figures:
    """BERT, its twin and GPT beside BM25, and both together."""
    test, task = splits["test"], demonstrated("retrieval", splits)
    arms, predictions, _ = _trained("retrieval", splits, plan, out)
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
                "best": documents[made["ranking"][0]][:300],
                "rank": 1 + made["ranking"].index(documents.index(example["document"]))
                if documents.index(example["document"]) in made["ranking"]
                else None,
            }
            for example, made in list(zip(test, predictions["bert"], strict=True))[:SHOWN]
        ],
        "sizes": _sizes(splits),
    }


def summarization(splits: Splits, plan: DemoPlan, out: Path) -> Figures:
    """GPT and its twin beside the passage's first sentence."""
    test, task = splits["test"], demonstrated("summarization", splits)
    arms, predictions, _ = _trained("summarization", splits, plan, out)
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
    loaded = load(out / "gpt")
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
    """A hidden word guessed by GPT from what stands before it and by BERT from both sides.

    Only words that are one token for both are asked for, so that neither has the easier task.
    """
    models = {family: load(out / family) for family in ("gpt", "bert")}
    questions = _cloze_questions(documents, models)
    gpt, bert = models["gpt"], models["bert"]
    right = {"gpt": [0.0], "bert": [0.0]}
    begin = tokenizer_of(gpt).special_id("bos")
    left = [[begin, *tokenizer_of(gpt).encode(before)][-200:] for before, _, _ in questions]
    guesses = read_tokens(
        gpt.model, "language_model", left, positions=[[len(ids) - 1] for ids in left], precision=precision_of(gpt.model)
    )
    answers = [tokenizer_of(gpt).encode(word)[0] for _, word, _ in questions]
    right["gpt"] = [float(guess[0].argmax() == answer) for guess, answer in zip(guesses, answers, strict=True)]
    tokenizer = tokenizer_of(bert)
    cls, sep, mask = (tokenizer.special_id(role) for role in ("cls", "sep", "mask"))
    both = [
        ([cls, *(start := tokenizer.encode(before)[-60:]), mask, *tokenizer.encode(after)[:60], sep], len(start) + 1)
        for before, _, after in questions
    ]
    guesses = read_tokens(
        bert.model,
        "language_model",
        [ids for ids, _ in both],
        positions=[[place] for _, place in both],
        precision=precision_of(bert.model),
    )
    answers = [tokenizer.encode(word.strip())[0] for _, word, _ in questions]
    right["bert"] = [float(guess[0].argmax() == answer) for guess, answer in zip(guesses, answers, strict=True)]
    arms = {family: {"accuracy": float(np.mean(each))} for family, each in right.items()}
    return {"metrics": ["accuracy"], "arms": arms, "sizes": {"test": len(questions)}}


def _cloze_questions(documents: Sequence[Document], models: dict[str, Loaded]) -> list[tuple[str, str, str]]:
    """Return (text before, word with its space, text after), one word of each document, chosen by position."""
    questions: list[tuple[str, str, str]] = []
    for number, document in enumerate(documents):
        text = document.text[:4000]
        found = [(start, stop) for start, stop in words(text) if start >= 200 and stop < len(text) - 100]
        for offset in range(len(found)):
            start, stop = found[(offset + 7 * number) % len(found)]
            space = start - 1 if text[start - 1] == " " else start
            word = text[space:stop]
            pieces = (tokenizer_of(models["gpt"]).encode(word), tokenizer_of(models["bert"]).encode(word.strip()))
            if word.strip().isalpha() and all(len(ids) == 1 for ids in pieces):
                questions.append((text[max(0, space - 600) : space], word, text[stop : stop + 300]))
                break
    return questions[:CLOZE_WORDS]


def extracted(splits: Splits, out: Path) -> Figures:
    """What BERT can do for a summary: choose the sentence that is nearest to the whole passage."""
    test, task = splits["test"][:EXTRACTED], Summarization()
    loaded = load(out / "retrieval-bert")
    predictions: list[Prediction] = []
    for example in test:
        passage = example["passage"]
        parts = [passage[start:stop].strip() for start, stop in sentences(passage)][:20]
        scores = Retrieval().similarity(loaded, [passage], parts)[0]
        predictions.append({"summary": parts[int(scores.argmax())]})
    return figures(task, predictions, test)


def _trained(
    name: str, splits: Splits, plan: DemoPlan, out: Path
) -> tuple[dict[str, Figures], dict[str, list[Prediction]], dict[str, Loaded]]:
    """Train and measure every arm of a task."""
    arms, predictions, models = {}, {}, {}
    for arm in ARMS[name]:
        arms[arm.name], predictions[arm.name], models[arm.name] = measure_arm(arm, name, splits, plan, out)
    return arms, predictions, models


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


def first_of(examples: Sequence[Example], column: str) -> str:
    """Return a column of the first example, for the commands that the report shows."""
    return str(examples[0][column]) if examples else ""
