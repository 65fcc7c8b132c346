"""MTEB gives a model the scores that it gives the same model in sentence-transformers, and results of its own."""

import csv
import io
from itertools import pairwise

import pytest
import zstandard
from small_models import MODELS, make

from bothways.errors import UserError
from bothways.verbs.export import export

pytestmark = pytest.mark.engines
SENTENCES = [
    "the old man",
    "the old man and the sea",
    "and the sea, the sea",
    "a man",
    "the sea",
    "我们今天去北京",
    "北京",
]
PAIRS = [(one, other, float(at % 6)) for at, (one, other) in enumerate(pairwise(SENTENCES))]
LABELLED = [(f"the {word} and the {word}", label) for word, label in [("old", 0), ("sea", 1)] for _ in range(12)]
LABELLED += [("我们今天去北京", 2), ("今天", 2)] * 6


@pytest.fixture(scope="module")
def mteb():
    return pytest.importorskip("mteb")


@pytest.fixture(scope="module")
def harness():
    return pytest.importorskip("bothways.harnesses.mteb")


@pytest.fixture
def bert(tmp_path, tokenizer):
    return make(tmp_path / "bert", tokenizer.framed_as_bert(), *MODELS["our BERT"])


def metadata(name, kind, main_score):
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        name=name,
        description="Made for a test.",
        dataset={"path": "local", "revision": "1"},
        type=kind,
        eval_langs=["eng-Latn"],
        main_score=main_score,
    )


def similarity(pairs):
    """Return a task: pairs of sentences with a score from 0 to 5."""
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskSTS

    class Similarity(AbsTaskSTS):
        metadata = globals()["metadata"]("LocalSimilarity", "STS", "cosine_spearman")

        def load_data(self, *_, **__):
            first, second, scores = zip(*pairs, strict=True)
            columns = {"sentence1": list(first), "sentence2": list(second), "score": list(scores)}
            self.dataset = DatasetDict({"test": Dataset.from_dict(columns)})
            self.data_loaded = True

    return Similarity()


def classification():
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskClassification

    class Classes(AbsTaskClassification):
        metadata = globals()["metadata"]("LocalClasses", "Classification", "accuracy")
        samples_per_label = 4
        n_experiments = 3

        def load_data(self, *_, **__):
            texts, labels = zip(*LABELLED, strict=True)
            data = Dataset.from_dict({"text": list(texts), "label": list(labels)})
            self.dataset = DatasetDict({"train": data, "test": data})
            self.data_loaded = True

    return Classes()


def retrieval():
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval

    class Search(AbsTaskRetrieval):
        metadata = globals()["metadata"]("LocalSearch", "Retrieval", "ndcg_at_10")

        def load_data(self, *_, **__):
            numbers = [str(number) for number in range(len(SENTENCES))]
            corpus = Dataset.from_dict({"id": numbers, "title": ["sea"] * len(numbers), "text": SENTENCES})
            queries = Dataset.from_dict({"id": numbers, "text": [f"{text} old" for text in SENTENCES]})
            relevant = {number: {number: 1} for number in numbers}
            split = {"corpus": corpus, "queries": queries, "relevant_docs": relevant, "top_ranked": None}
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return Search()


def scores(mteb, model, task):
    (result,) = mteb.evaluate(model, tasks=task, cache=None, show_progress_bar=False, co2_tracker=False).task_results
    (found,) = result.scores["test"]
    return {name: value for name, value in found.items() if isinstance(value, float)}


@pytest.mark.parametrize("name", ["our BERT", "BERT", "GPT"])
def test_scores_are_those_of_sentence_transformers(mteb, harness, tmp_path, tokenizer, name):
    folder = make(tmp_path / "model", tokenizer if name == "GPT" else tokenizer.framed_as_bert(), *MODELS[name])
    export(folder, format="sentence-transformers", out=tmp_path / "out")
    theirs = pytest.importorskip("sentence_transformers").SentenceTransformer(str(tmp_path / "out"), device="cpu")
    ours = harness.BothwaysEncoder(folder, device="cpu")
    for task in (similarity(PAIRS), classification(), retrieval()):
        found = scores(mteb, ours, task)
        assert len(found) > 3
        assert found == pytest.approx(scores(mteb, theirs, task), abs=1e-4, nan_ok=True)


def test_a_hybrid_reads_as_it_is_told(mteb, harness, folders):
    task = similarity(PAIRS)
    found = [
        scores(mteb, harness.BothwaysEncoder(folders["hybrid"], device="cpu", attention=attention), task)
        for attention in (None, "causal", "bidirectional")
    ]
    assert found[0] == found[1] != found[2]


def test_it_is_an_encoder_with_a_name_and_a_revision_made_of_what_it_is(harness, bert, tmp_path, tokenizer):
    encoder = harness.BothwaysEncoder(bert, device="cpu")
    assert isinstance(encoder, pytest.importorskip("mteb.models").EncoderProtocol)
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.embed_dim, meta.max_tokens) == ("bothways/bert", 32, 64)
    assert meta.revision == harness.BothwaysEncoder(bert, device="cpu").mteb_model_meta.revision
    others = [
        harness.BothwaysEncoder(bert, device="cpu", precision="bf16"),
        harness.BothwaysEncoder(make(tmp_path / "other" / "bert", tokenizer, *MODELS["BERT"]), device="cpu"),
    ]
    assert len({meta.revision, *(other.mteb_model_meta.revision for other in others)}) == 3


def test_results_are_kept_by_that_revision(mteb, harness, bert, tmp_path):
    cache = mteb.ResultCache(tmp_path / "results")
    encoder = harness.BothwaysEncoder(bert, device="cpu")
    mteb.evaluate(encoder, tasks=similarity(PAIRS), cache=cache, show_progress_bar=False, co2_tracker=False)
    assert [file.parent.name for file in (tmp_path / "results").rglob("LocalSimilarity.json")] == [
        encoder.mteb_model_meta.revision
    ]


def test_long_and_empty_texts_are_read(harness, bert):
    task = similarity(PAIRS)
    batches = [{"text": ["the old man " * 100, ""]}, {"text": ["the sea"]}]
    encoder = harness.BothwaysEncoder(bert, device="cpu")
    vectors = encoder.encode(batches, task_metadata=task.metadata, hf_split="test", hf_subset="default", batch_size=2)
    assert vectors.shape == (3, 32)
    assert (vectors**2).sum(1) == pytest.approx([1, 1, 1], abs=1e-5)


def test_what_is_no_text_and_unknown_options_are_refused(harness, bert):
    task = similarity(PAIRS)
    encoder = harness.BothwaysEncoder(bert, device="cpu")
    where = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default"}
    with pytest.raises(UserError, match="LocalSimilarity has inputs of image, and bothways reads text alone"):
        encoder.encode([{"image": []}], **where)
    with pytest.raises(UserError, match="unknown encode_kwargs 'precision'; legal: batch_size, show_progress_bar"):
        encoder.encode([], **where, precision="int8")


@pytest.mark.slow
def test_real_pairs_of_sentences_have_the_same_scores(mteb, harness, bert, tmp_path, data_dir):
    text = zstandard.decompress((data_dir / "pairs/stsb_en/stsbenchmark.tsv.zst").read_bytes()).decode("utf-8")
    rows = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    pairs = [(each["sentence1"], each["sentence2"], float(each["score"])) for each in rows if each["split"] == "test"]
    export(bert, format="sentence-transformers", out=tmp_path / "out")
    theirs = pytest.importorskip("sentence_transformers").SentenceTransformer(str(tmp_path / "out"), device="cpu")
    task = similarity(pairs)
    found = scores(mteb, harness.BothwaysEncoder(bert, device="cpu"), task)
    assert len(pairs) == 1379
    assert found == pytest.approx(scores(mteb, theirs, task), abs=1e-4)
