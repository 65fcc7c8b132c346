"""Kinds, reserved tokens, and training in bounded memory."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

import bothways.text.tokenizing.training as training
from bothways.errors import UserError
from bothways.objectives.masked_lm import MaskedLM
from bothways.text.tokenizing.tokenizer import KINDS, SPECIAL_TOKENS, Tokenizer

ENGLISH = "The quick brown fox jumps over the lazy dog, and packs my box with five dozen liquor jugs! "
CHINESE = "我们今天去北京旅游，明天回家。他喜欢在晚上读历史书。"
TEXTS = [ENGLISH * 30, CHINESE * 30, ENGLISH.lower(), "abcdefghijklmnopqrstuvwxyz " * 4]
SIZES = {"bpe": 320, "wordpiece": 115, "unigram": 420}
RESERVED = 3


@pytest.fixture(scope="module")
def trained():
    return {
        kind: Tokenizer.train(TEXTS, kind=kind, vocab_size=size, reserved=RESERVED, exact=False)
        for kind, size in SIZES.items()
    }


# Unigram.


@settings(max_examples=200)
@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="▁"), max_size=60))
def test_unigram_gives_any_text_back(trained, text):
    assert trained["unigram"].decode(trained["unigram"].encode(text)) == text


ODD = [
    *SPECIAL_TOKENS["unigram"],
    "<0x41>",
    "<0xFF>",
    "<|reserved_0|>",
    " ",
    "  ",
    "\n",
    "\r\n",
    "a",
    "我",
    "é",
    "🙂",
    "\x00",
]


@settings(max_examples=200)
@given(st.lists(st.sampled_from(ODD), max_size=12).map("".join))
def test_unigram_gives_even_the_oddest_text_back(trained, text):
    tokenizer = trained["unigram"]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    unknown = tokenizer.special_id("unk")
    assert unknown not in tokenizer.encode(text)


def test_unigram_turns_its_own_sign_for_a_space_into_a_space(trained):
    assert trained["unigram"].decode(trained["unigram"].encode("a▁b")) == "a b"


def test_unigram_has_the_roles_of_both_families(trained):
    assert trained["unigram"].special_ids == {"pad": 0, "unk": 1, "bos": 2, "cls": 2, "eos": 3, "sep": 3, "mask": 4}
    framed = trained["unigram"].backend.encode("fox", "dog")
    assert framed.tokens[0] == "<s>"
    assert framed.tokens[-1] == "</s>"
    assert framed.tokens.count("</s>") == 3


def test_unigram_cuts_texts_into_pieces_it_has_learned(trained):
    tokens = [trained["unigram"].backend.id_to_token(index) for index in trained["unigram"].encode("the quick 我们")]
    assert tokens[0] == "the"
    assert len(tokens) < len("the quick 我们")


def test_the_pieces_of_unigram_that_go_on_with_a_word(trained):
    tokenizer = trained["unigram"]
    continues = tokenizer.continues_word()
    begins = [index for index in tokenizer.encode("the quickly brown") if not continues[index]]
    assert [tokenizer.backend.id_to_token(index)[0] for index in begins] == ["▁", "▁"]


def test_rare_characters_are_written_in_bytes():
    common = Tokenizer.train(["a b c d e " * 5000 + "ж"], kind="unigram", vocab_size=400, exact=False)
    assert common.backend.token_to_id("ж") is None
    assert common.decode(common.encode("aжb")) == "aжb"
    often = Tokenizer.train(["a b c d e ж " * 50], kind="unigram", vocab_size=400, exact=False)
    assert often.backend.token_to_id("ж") is not None


def test_words_are_cut_at_characters_that_are_not_covered():
    counts = training._covered(Counter({" common": 100_000, " cжmon": 1}))
    assert counts == {"▁common": 100_000, "▁c": 1, "mon": 1}


# Every kind.


@pytest.mark.parametrize("kind", KINDS)
def test_saving_and_loading_changes_nothing(trained, tmp_path, kind):
    trained[kind].save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.kind == kind
    assert loaded.backend.to_str() == trained[kind].backend.to_str()
    loaded.save(tmp_path)
    assert Tokenizer.load(tmp_path).backend.to_str() == trained[kind].backend.to_str()


@pytest.mark.parametrize("kind", KINDS)
def test_framed_as_bert_other_libraries_read_texts_and_pairs_as_masked_language_modelling_does(trained, tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    tokenizer = trained[kind].framed_as_bert()
    tokenizer.save(tmp_path)
    special = tokenizer.special_ids
    objective = MaskedLM(
        cls_id=special["cls"], sep_id=special["sep"], mask_id=special["mask"], vocab_size=len(tokenizer), mask_share=0
    )
    first, second = (np.array(tokenizer.encode(text)) for text in ("the fox jumps", "a lazy dog"))
    others = transformers.AutoTokenizer.from_pretrained(tmp_path), Backend.from_file(str(tmp_path / "tokenizer.json"))
    for texts, tokens in ((("the fox jumps",), first[:0]), (("the fox jumps", "a lazy dog"), second)):
        row = objective.sequence(first, tokens, True, np.random.default_rng(0))
        expected = row.input_ids.copy()
        expected[row.targets["language_model"].index] = row.targets["language_model"].value
        called, encoded = others[0](*texts, return_token_type_ids=True), others[1].encode(*texts)
        assert called["input_ids"] == encoded.ids == expected.tolist()
        assert called["token_type_ids"] == encoded.type_ids == row.token_type_ids.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_frame_of_bert_changes_no_ids_and_comes_off_again(trained, kind):
    before = trained[kind].backend.to_str()
    framed = trained[kind].framed_as_bert()
    assert (framed.backend.to_str() == before) == (kind == "wordpiece")
    assert trained[kind].backend.to_str() == before
    assert framed.encode(ENGLISH + CHINESE) == trained[kind].encode(ENGLISH + CHINESE)
    for each in (framed, trained[kind]):
        assert each.framed_by_kind().backend.to_str() == before


@pytest.mark.parametrize("kind", KINDS)
def test_reserved_tokens_follow_the_special_ones(trained, kind):
    first = len(SPECIAL_TOKENS[kind])
    names = [trained[kind].backend.id_to_token(first + number) for number in range(RESERVED)]
    assert names == ["<|reserved_0|>", "<|reserved_1|>", "<|reserved_2|>"]
    assert sorted(trained[kind].backend.get_vocab().values()) == list(range(len(trained[kind])))


def special_names(kind):
    return [*SPECIAL_TOKENS[kind], *(f"<|reserved_{number}|>" for number in range(RESERVED))]


@settings(max_examples=200)
@given(
    kind=st.sampled_from(KINDS),
    parts=st.lists(
        st.sampled_from(sorted({name for kind in KINDS for name in special_names(kind)}))
        | st.sampled_from([" ", "the", "我", "<", "|", "[", "reserved", "_0|>", "\n"]),
        max_size=10,
    ),
)
def test_no_text_makes_a_special_or_reserved_token(trained, kind, parts):
    tokenizer, text = trained[kind], "".join(parts)
    special = {tokenizer.backend.token_to_id(name) for name in special_names(kind)} - {tokenizer.special_ids.get("unk")}
    assert not special & set(tokenizer.encode(text))
    assert not special & set(tokenizer.encode_batch([text])[0].tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_text_that_teaches_special_tokens_teaches_none(kind):
    texts = [f"{name} " * 300 + f"x{name}" * 300 for name in special_names(kind)]
    tokenizer = Tokenizer.train([*texts, *TEXTS], kind=kind, vocab_size=460, reserved=RESERVED, exact=False)
    for name in special_names(kind):
        index = tokenizer.backend.token_to_id(name)
        for text in (name, f" {name}", f"x{name}x", f"x {name} x"):
            assert index not in tokenizer.encode(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reserved_token_is_read_where_it_is_asked_for(trained, kind):
    index = trained[kind].backend.token_to_id("<|reserved_1|>")
    assert index in trained[kind].encode("the <|reserved_1|> dog", special_tokens=True)
    assert "reserved" not in trained[kind].decode([index])


@pytest.mark.parametrize("reserved", [-1, 10_001])
def test_an_impossible_number_of_reserved_tokens_is_refused(reserved):
    with pytest.raises(UserError, match=f"0 to 10,000 reserved tokens, not {reserved}"):
        Tokenizer.train(TEXTS, reserved=reserved)


def test_reserved_tokens_need_room():
    with pytest.raises(UserError, match="more than 290 tokens, and 280 were asked for"):
        Tokenizer.train(TEXTS, vocab_size=280, reserved=30)


# The same tokenizer everywhere. Marks, signs and ideographs of rare kinds stand inside words, too.

RARE = "naïve nai\u0308ve 〇〇年 々々 a→b→c ก็ดี กำ e\u0301e\u0301 ½x½ €5€ 𠮷𠮷 \U0002b8b8\U0002b8b8 한국 カタカナ "


@pytest.mark.parametrize(
    ("kind", "lowercase"), [("bpe", True), ("wordpiece", True), ("wordpiece", False), ("unigram", True)]
)
def test_training_is_the_same_in_every_process(kind, lowercase):
    texts = [*TEXTS, RARE * 20]
    code = (
        "import sys\nfrom bothways.text.tokenizing.tokenizer import Tokenizer\n"
        f"trained = Tokenizer.train({texts!r}, kind={kind!r}, vocab_size=480, lowercase={lowercase}, exact=False)\n"
        "sys.stdout.write(trained.backend.to_str())"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    own = Tokenizer.train(iter(texts), kind=kind, vocab_size=480, lowercase=lowercase, exact=False)
    assert outputs == {own.backend.to_str()}


# A stream that nobody holds.


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_read_once_and_not_held(kind):
    alive, most = [], 0

    class Text(str):
        def __init__(self, _):
            alive.append(None)

        def __del__(self):
            alive.pop()

    def texts():
        nonlocal most
        for number in range(3000):
            yield Text(f"{ENGLISH} number {number}")
            most = max(most, len(alive))

    Tokenizer.train(texts(), kind=kind, vocab_size=400, exact=False)
    assert 0 < most < 600


@pytest.mark.parametrize("text", [ENGLISH * 2000, CHINESE * 5000, "x" * 200_000, " " * 200_000, "Ж1" * 90_000])
def test_slices_of_a_long_text_are_the_text(text):
    slices = list(training._slices([text, "short"]))
    assert "".join(slices) == text + "short"
    assert max(map(len, slices)) <= 2 * training._SLICE


@pytest.mark.parametrize("text", [ENGLISH * 2000, CHINESE * 5000, "Слово за словом, да и всё. " * 6000])
@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_slices_train_what_the_whole_text_would(monkeypatch, text, kind):
    sliced = Tokenizer.train([text], kind=kind, vocab_size=300, exact=False).backend.to_str()
    monkeypatch.setattr(training, "_SLICE", len(text))
    assert Tokenizer.train([text], kind=kind, vocab_size=300, exact=False).backend.to_str() == sliced


def test_endless_words_are_whole_up_to_a_budget_and_then_cut(monkeypatch):
    monkeypatch.setattr(training, "_WHOLE", 100)
    texts = ["我们今天去北京 and some words", "他喜欢在晚上读历史书。" * 3, "好 我们今天去北京。x" + "y" * 70 + " z"]
    first, *rest = training._without_endless_words(texts)
    assert first == texts[0]
    assert "".join(rest) == "".join(texts[1:])
    assert rest[:6] == ["他喜", "欢在", "晚上", "读历", "史书", "。"]
    assert rest[-6:-1] == ["。x" + "y" * 14, *["y" * 16] * 3, "y" * 8]


def test_too_many_different_words_lose_the_rarest(monkeypatch):
    notes = []
    monkeypatch.setattr(training.progress, "note", notes.append)
    groups = [["often"] * 3 + ["twice"] * 2, [f"word{number}" for number in range(50)], ["late"]]
    assert training._count(iter(groups), 20) == {"often": 3, "twice": 2, "late": 1}
    assert len(notes) == 1
    assert "more than 20 different words" in notes[0]
    assert sum(training._count(iter(groups), 100).values()) == 56
    assert len(notes) == 1


def test_counted_words_are_written_as_often_as_they_came():
    counts = Counter({"a": 1, "bc": training._REPEATED, "d": 2 * training._REPEATED + 1})
    texts = list(training._repeated(counts, " "))
    assert Counter(word for text in texts for word in text.split()) == counts
    assert max(text.count(" ") for text in texts) == training._REPEATED - 1


def test_large_counts_are_scaled_and_no_word_is_lost():
    counts = Counter({"ab": 300, "c": 399, "d": 1})
    assert training._scaled(counts, 1000) == counts
    assert training._scaled(counts, 100) == {"ab": 30, "c": 40, "d": 1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [None, 3, b"bytes", "half \ud800"])
def test_what_is_no_text_is_refused(kind, text):
    with pytest.raises(UserError, match="a tokenizer is trained on"):
        Tokenizer.train(["fine", text], kind=kind, vocab_size=400, exact=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", "x", "\x00" * 1000, "y" * 70_000, "\n" * 1000])
def test_odd_corpora_train_something_that_works(kind, text):
    trained = Tokenizer.train([text], kind=kind, vocab_size=400, exact=False)
    assert sorted(trained.backend.get_vocab().values()) == list(range(len(trained)))
    if kind != "wordpiece":
        assert trained.decode(trained.encode(ENGLISH + text[:1000])) == ENGLISH + text[:1000]


def test_ids_that_cannot_be_are_refused(trained):
    for tokenizer in trained.values():
        assert tokenizer.decode([]) == ""
        for index in (-1, 2**32, 2**40):
            with pytest.raises(UserError, match="a token id must be a whole number of 0 to 4294967295"):
                tokenizer.decode([index])


MEASURE = """
import io, itertools, json, re, sys
from pathlib import Path
import zstandard
from bothways.text.tokenizing.tokenizer import Tokenizer

def texts(folder, limit):
    read = 0
    for file in sorted(Path(folder).glob("*.jsonl.zst")):
        with file.open("rb") as stream:
            for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(stream), encoding="utf-8"):
                text = json.loads(line)["text"]
                read += len(text.encode())
                yield text
                if read > limit:
                    return

kind, folder = sys.argv[1:]
Tokenizer.train(texts(folder, 32_000_000), kind=kind, vocab_size=16384, exact=False)
print(int(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", KINDS)
def test_32_megabytes_train_in_600(data_dir, kind, language):
    pytest.importorskip("zstandard")
    command = [sys.executable, "-c", MEASURE, kind, str(data_dir / "text" / language)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 600


# Round trips of random text.


RANGES = np.array([(0, 0x80), (0x80, 0x3000), (0x3000, 0xA000), (0xE000, 0x110000), (0x1F300, 0x1FB00)])


def random_texts(generator, count):
    lengths = generator.integers(0, 24, count)
    lower, upper = RANGES[generator.integers(0, len(RANGES), lengths.sum())].T
    points = generator.integers(lower, upper)
    points[points == ord("▁")] = ord(" ")
    text = points.astype("<u4").tobytes().decode("utf-32-le")
    stops = np.cumsum(lengths)
    return [text[start:stop] for start, stop in zip(stops - lengths, stops, strict=True)]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_random_strings_come_back(trained, kind, count):
    generator, tokenizer, back = np.random.default_rng(count), trained[kind], 0
    for _ in range(count // 1000):
        texts = random_texts(generator, 1000)
        decoded = tokenizer.backend.decode_batch([each.ids for each in tokenizer.encodings(texts)])
        back += sum(text == again for text, again in zip(texts, decoded, strict=True))
    assert back == count
