import io
import json
import tarfile

import numpy as np
import pytest
import torch
import zstandard

from bothways.errors import UserError
from bothways.evaluation.linguistic import Measured, measure_pairs, ratios, read_pairs, table
from bothways.metrics.bootstrap import Interval
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.tasks.minimal_pairs import MinimalPairs, outcome
from bothways.text.tokenizing.tokenizer import Tokenizer

SENTENCE = "the river moves under an old mountain and a small engine reads one large kernel with every signal"


def lines_of(paradigm, count):
    made = [
        {"sentence_good": f"good {at}", "sentence_bad": f"bad {at}", "UID": paradigm, "linguistics_term": "order"}
        for at in range(count)
    ]
    return "".join(json.dumps(each) + "\n" for each in made).encode()


@pytest.fixture
def pack(tmp_path):
    """Return a maker of .tar.zst archives from names to contents."""

    def make(files, name="pairs.tar.zst"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for member, data in files.items():
                info = tarfile.TarInfo(member)
                if data is None:
                    info.type = tarfile.DIRTYPE
                    archive.addfile(info)
                else:
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
        file = tmp_path / name
        file.write_bytes(zstandard.ZstdCompressor().compress(buffer.getvalue()))
        return file

    return make


def test_an_archive_is_read_in_the_order_of_its_names(pack):
    files = {"data": None, "data/b.jsonl": lines_of("b", 3), "data/a.jsonl": lines_of("a", 2), "data/README": b"no"}
    examples = read_pairs(pack(files))
    assert [(each["paradigm"], each["good"], each["bad"]) for each in examples] == [
        ("a", "good 0", "bad 0"),
        ("a", "good 1", "bad 1"),
        *[("b", f"good {at}", f"bad {at}") for at in range(3)],
    ]
    assert {each["phenomenon"] for each in examples} == {"order"}


def test_nothing_is_written_to_disk(pack, tmp_path):
    file = pack({"../outside.jsonl": lines_of("a", 1)})
    before = sorted(tmp_path.parent.rglob("*"))
    assert len(read_pairs(file)) == 1
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_a_limit_takes_the_first_of_each_paradigm(pack, tmp_path):
    file = pack({"b.jsonl": lines_of("b", 3), "a.jsonl": lines_of("a", 1)})
    assert [(each["paradigm"], each["good"]) for each in read_pairs(file, limit=2)] == [
        ("a", "good 0"),
        ("b", "good 0"),
        ("b", "good 1"),
    ]
    plain = tmp_path / "plain.csv"
    plain.write_text("good,bad\n" + "a b,b a\n" * 4, encoding="utf-8")
    assert len(read_pairs(plain)) == 4
    assert len(read_pairs(plain, limit=3)) == 3
    with pytest.raises(UserError, match="limit must be at least 1"):
        read_pairs(plain, limit=0)


def test_what_cannot_be_read_is_refused_by_name(pack, tmp_path):
    for content, message in (
        (b"[1]\n", r"a\.jsonl:1 is no JSON object but list"),
        (lines_of("a", 1) + b"\n{broken\n", r"a\.jsonl:3 is no JSON object"),
        (b'{"sentence_good": "a"}\n', r"a\.jsonl:1: the column 'bad'"),
    ):
        with pytest.raises(UserError, match=message):
            read_pairs(pack({"a.jsonl": content}))
    with pytest.raises(UserError, match="not one example"):
        read_pairs(pack({"a.txt": b"text"}))
    cut = pack({"a.jsonl": lines_of("a", 500)})
    cut.write_bytes(cut.read_bytes()[:-40])
    noise = tmp_path / "noise.tar.zst"
    noise.write_bytes(b"no archive at all")
    for file in (cut, noise, tmp_path / "absent.tar.zst"):
        with pytest.raises(UserError, match=r"cannot be read as a \.tar\.zst archive"):
            read_pairs(file)


# Models


@pytest.fixture
def make_loaded(as_loaded):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    tokenizer = Tokenizer.train(
        [" ".join(rng.permutation(SENTENCE.split())) for _ in range(60)], kind="bpe", vocab_size=320
    )

    def make(**settings):
        tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
        config = TransformerConfig(vocab_size=len(tokenizer), initializer_range=0.3, **{**tiny, **settings})
        return as_loaded(Model(config, {"language_model": 0}), tokenizer)

    return make


EXAMPLES = [
    {"good": good, "bad": bad, "paradigm": paradigm, "phenomenon": "order"}
    for paradigm, good, bad in (
        ("a", "the old river", "the river old"),
        ("a", "a small engine reads", "a small reads engine"),
        ("b", "one large kernel", "one kernel large one"),
    )
]


def test_a_hybrid_is_measured_each_way_and_by_both_and_others_in_theirs(make_loaded):
    ways = {}
    for name, settings in {"h": {"hybrid": True}, "g": {}, "b": {"attention": "bidirectional"}}.items():
        loaded = make_loaded(**settings)
        found = measure_pairs(name, loaded, EXAMPLES)
        ways[name] = [each.attention for each in found]
        for each in found:
            assert (each.model, each.hybrid, each.pairs) == (name, name == "h", 3)
            made = MinimalPairs(attention=each.attention).predict(loaded, EXAMPLES)
            outcomes = [outcome(prediction) for prediction in made]
            assert each.figures["pair_accuracy"].value == pytest.approx(np.mean(outcomes))
    assert ways == {"h": ["causal", "bidirectional", "both"], "g": ["causal"], "b": ["bidirectional"]}


def test_how_sentences_are_scored_is_passed_on(make_loaded):
    loaded = make_loaded(attention="bidirectional")
    task = MinimalPairs(masking="token", attention="causal")
    [found] = measure_pairs("b", loaded, EXAMPLES, task=task)
    assert found.attention == "bidirectional"
    made = MinimalPairs(masking="token").predict(loaded, EXAMPLES)
    assert found.figures == MinimalPairs().intervals(made, EXAMPLES)


def measured(model, attention, accuracy, *, hybrid=False, **figures):
    names = {"accuracy": accuracy, "decided": 0.995, **figures}
    intervals = {name: Interval(value=value, low=value - 0.01, high=value + 0.01) for name, value in names.items()}
    return Measured(model=model, attention=attention, hybrid=hybrid, pairs=2000, figures=intervals, seconds=4.0)


FOUND = [
    measured("h", "causal", 0.72, hybrid=True, **{"accuracy/binding": 0.5, "accuracy/binding/x": 0.5}),
    measured("h", "bidirectional", 0.66, hybrid=True, **{"accuracy/binding": 0.25}),
    measured("h", "both", 0.78, hybrid=True),
    measured("g", "causal", 0.75, same_words_accuracy=0.9),
    measured("b", "bidirectional", 0.5),
]


def test_the_table_has_a_row_for_each_phenomenon_and_none_for_paradigms():
    lines = table(FOUND).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split("  ")[0] for line in lines] == [
        "", "", "accuracy", "same words accuracy", "binding", "ties", "pairs", "pairs/s",
    ]  # fmt: skip
    assert lines[0].split() == ["h", "h", "h", "g", "b"]
    assert lines[1].split() == ["causal", "bidirectional", "both", "causal", "bidirectional"]
    assert "72.0 [71.0, 73.0]" in lines[2]
    assert lines[4].split() == ["binding", "50.0", "[49.0,", "51.0]", "25.0", "[24.0,", "26.0]"]
    assert lines[5].split() == ["ties", *["0.50"] * 5]
    assert lines[6].split() == ["pairs", *["2,000"] * 5]
    assert lines[7].split() == ["pairs/s", *["500"] * 5]


def test_a_hybrid_is_compared_with_models_that_read_as_it_does():
    assert ratios(FOUND) == [
        "h, causal: 72.00, which is 0.960 of g (75.00); above chance: 0.880",
        "h, bidirectional: 66.00, which is 1.320 of b (50.00); above chance: not defined",
        "h, both: 78.00, which is 1.040 of g (75.00); above chance: 1.120",
        "h, both: 78.00, which is 1.560 of b (50.00); above chance: not defined",
    ]
    assert ratios(FOUND[3:]) == []


def test_plain_values_say_all(make_loaded):
    [found] = measure_pairs("g", make_loaded(), EXAMPLES)
    values = found.to_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["figures"]["accuracy/order/a"].keys() == {"value", "low", "high"}
    assert (values["model"], values["attention"], values["hybrid"], values["pairs"]) == ("g", "causal", False, 3)
    assert FOUND[0].to_dict()["pairs_per_second"] == 500


# Real data


@pytest.mark.parametrize(
    ("place", "paradigms", "phenomena"), [("eval/blimp/blimp", 67, 13), ("eval/zhoblimp/zhoblimp", 118, 15)]
)
def test_the_benchmarks_are_read_whole(data_dir, place, paradigms, phenomena):
    examples = read_pairs(data_dir / f"{place}.tar.zst", limit=5)
    assert len({each["paradigm"] for each in examples}) == paradigms
    assert len({each["phenomenon"] for each in examples}) == phenomena
    assert len(examples) == 5 * paradigms
