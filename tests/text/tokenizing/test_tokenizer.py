import copy
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import UserError
from bothways.text.tokenizing.tokenizer import LIMIT, SPECIAL_TOKENS, Tokenizer, in_batches

ENGLISH = "The quick brown fox jumps over the lazy dog, and packs my box with five dozen liquor jugs! "
CHINESE = "我们今天去北京旅游，明天回家。他喜欢在晚上读历史书。"
TEXTS = [ENGLISH * 3, CHINESE * 3, ENGLISH.lower(), "abcdefghijklmnopqrstuvwxyz " * 4]
SIZES = {"bpe": 320, "wordpiece": 110}
SPECIALS = sorted({token for tokens in SPECIAL_TOKENS.values() for token in tokens})


@pytest.fixture(scope="module")
def bpe():
    return Tokenizer.train(TEXTS, kind="bpe", vocab_size=SIZES["bpe"])


@pytest.fixture(scope="module")
def wordpiece():
    return Tokenizer.train(TEXTS, kind="wordpiece", vocab_size=SIZES["wordpiece"])


@pytest.fixture(params=["bpe", "wordpiece"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


# There and back.


@settings(max_examples=500)
@given(st.text(max_size=60))
def test_byte_pairs_give_any_text_back(bpe, text):
    assert bpe.decode(bpe.encode(text)) == text


@given(
    st.lists(st.sampled_from([*SPECIALS, " ", "a", "Ġ", "我", "\n", "\x00", "🙂", "\u200d", "é"]), max_size=12).map(
        "".join
    )
)
def test_byte_pairs_give_even_the_oddest_text_back(bpe, text):
    assert bpe.decode(bpe.encode(text)) == text


letters = st.text(alphabet="abcdefghijklmnopqrstuvwxyz我们今天去北京旅游明回家他喜欢在晚上读历史书 ", max_size=60)


@given(letters)
def test_word_pieces_give_words_and_characters_back(wordpiece, text):
    assert wordpiece.decode(wordpiece.encode(text)).replace(" ", "") == text.replace(" ", "")


@given(st.lists(st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=9), max_size=8).map(" ".join))
def test_word_pieces_give_spaces_between_words_back(wordpiece, text):
    assert wordpiece.decode(wordpiece.encode(text)) == text


def test_word_pieces_fold_case_and_accents_unless_told_not_to(wordpiece):
    assert wordpiece.encode("QuÍck") == wordpiece.encode("quick")
    cased = Tokenizer.train(TEXTS, kind="wordpiece", vocab_size=110, lowercase=False)
    assert cased.encode("The") != cased.encode("the")
    assert cased.decode(cased.encode("The")) == "The"


def test_chinese_characters_stand_alone_in_word_pieces(wordpiece):
    tokens = [wordpiece.backend.id_to_token(index) for index in wordpiece.encode("我们今天quick")]
    assert tokens[:4] == list("我们今天")


def test_an_unknown_character_is_one_unknown_word(wordpiece):
    assert wordpiece.encode("the ж dog") == [
        *wordpiece.encode("the"),
        wordpiece.special_id("unk"),
        *wordpiece.encode("dog"),
    ]


def test_all_ways_of_encoding_agree(tokenizer):
    texts = [*TEXTS, "", "[MASK] ж 🙂"]
    one_by_one = [tokenizer.encode(text) for text in texts]
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == one_by_one
    assert [encoding.ids for encoding in tokenizer.encodings(texts)] == one_by_one
    assert all(ids.dtype == np.int64 for ids in tokenizer.encode_batch(texts))


# Special tokens.


@given(st.lists(st.sampled_from([*SPECIALS, " ", "the", "我", "[", "]", "<|", "|>"]), max_size=10).map("".join))
def test_no_text_makes_a_special_token(bpe, wordpiece, text):
    for tokenizer in (bpe, wordpiece):
        special = set(tokenizer.special_ids.values()) - {tokenizer.special_ids.get("unk")}
        assert not special & set(tokenizer.encode(text))
        assert not special & set(tokenizer.encode_batch([text])[0].tolist())


def test_a_special_token_is_read_where_it_is_asked_for(tokenizer):
    mask = tokenizer.special_id("mask")
    assert tokenizer.encode("the [MASK] dog", special_tokens=True).count(mask) == 1
    assert mask not in tokenizer.encode("the [MASK] dog")


def test_training_text_full_of_special_tokens_teaches_none():
    trained = Tokenizer.train([token * 50 for token in SPECIALS] + TEXTS, kind="bpe", vocab_size=330)
    text = "".join(SPECIALS)
    assert trained.decode(trained.encode(text)) == text
    assert not set(trained.special_ids.values()) & set(trained.encode(text))


def test_each_kind_has_its_roles(bpe, wordpiece):
    assert bpe.special_ids == {"bos": 0, "eos": 0, "pad": 1, "cls": 0, "sep": 2, "mask": 3}
    assert wordpiece.special_ids == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    assert bpe.special_id("eos") == 0
    with pytest.raises(UserError, match="this tokenizer has no bos token; it has pad, unk, cls, sep, mask"):
        wordpiece.special_id("bos")


def test_special_tokens_are_left_out_of_text(tokenizer):
    ids = [tokenizer.special_id("sep"), *tokenizer.encode("the dog"), tokenizer.special_id("pad")]
    assert tokenizer.decode(ids) == "the dog"


def test_the_pieces_that_go_on_with_a_word(wordpiece, bpe):
    for tokenizer, text in ((wordpiece, "the quickbrownfox zebra"), (bpe, "the quickbrownfox zebra")):
        ids = tokenizer.encode(text)
        continues = tokenizer.continues_word()
        assert len(continues) == len(tokenizer)
        tokens = [tokenizer.backend.id_to_token(index) for index in ids]
        begins = [token for token, index in zip(tokens, ids, strict=True) if not continues[index]]
        assert not continues[list(tokenizer.special_ids.values())].any()
        assert len(begins) == 3 if tokenizer is wordpiece else len(begins) == 2  # the first word has no space before it


# Training.


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_the_vocabulary_has_the_size_asked_for_without_gaps(kind):
    trained = Tokenizer.train(TEXTS, kind=kind, vocab_size=SIZES[kind])
    assert len(trained) == SIZES[kind]
    assert sorted(trained.backend.get_vocab().values()) == list(range(SIZES[kind]))


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_training_is_the_same_in_every_process(kind):
    code = (
        "import sys\nfrom bothways.text.tokenizing.tokenizer import Tokenizer\n"
        f"trained = Tokenizer.train({TEXTS!r}, kind={kind!r}, vocab_size={SIZES[kind]})\n"
        "sys.stdout.write(trained.backend.to_str())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == Tokenizer.train(iter(TEXTS), kind=kind, vocab_size=SIZES[kind]).backend.to_str()


@pytest.mark.parametrize(("kind", "vocab_size"), [("bpe", 260), ("bpe", 0), ("wordpiece", 6), ("wordpiece", -1)])
def test_a_vocabulary_without_room_for_its_alphabet_is_refused(kind, vocab_size):
    with pytest.raises(
        UserError, match=f"a {kind} vocabulary needs more than .* {vocab_size} were asked for; raise --vocab-size"
    ):
        Tokenizer.train(TEXTS, kind=kind, vocab_size=vocab_size)


def test_a_vocabulary_smaller_than_the_characters_of_the_text_is_refused_with_the_size_needed():
    with pytest.raises(UserError, match=r"so many different characters .* raise --vocab-size") as caught:
        Tokenizer.train(TEXTS, kind="wordpiece", vocab_size=30)
    needed = int(re.search(r"at least (\d+) tokens", str(caught.value))[1])
    trained = Tokenizer.train(TEXTS, kind="wordpiece", vocab_size=needed)
    assert len(trained) == needed
    assert trained.special_id("unk") not in trained.encode(CHINESE)


@pytest.mark.parametrize(("vocab_size", "kind"), [(30, "wordpiece"), (9999, "wordpiece"), (9999, "bpe")])
def test_an_inexact_size_is_taken_as_a_wish(vocab_size, kind):
    trained = Tokenizer.train(TEXTS, kind=kind, vocab_size=vocab_size, exact=False)
    assert 30 < len(trained) < 9999


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
@pytest.mark.parametrize("texts", [TEXTS, [], [""], ["x"]])
def test_text_too_poor_for_the_vocabulary_is_refused(kind, texts):
    with pytest.raises(
        UserError, match=r"supports a vocabulary of \d+ tokens, fewer than the 9999 asked for; lower --vocab-size"
    ):
        Tokenizer.train(texts, kind=kind, vocab_size=9999)


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match="unknown tokenizer 'unigrams'; legal: bpe, unigram, wordpiece"):
        Tokenizer.train(TEXTS, kind="unigrams")


# Files.


def test_saving_and_loading_changes_nothing(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        loaded = Tokenizer.load(place)
        assert loaded.backend.to_str() == tokenizer.backend.to_str()
        assert loaded.kind == tokenizer.kind
        assert loaded.encode(ENGLISH + CHINESE) == tokenizer.encode(ENGLISH + CHINESE)


def test_other_libraries_read_it_alike(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    other = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert other.encode(ENGLISH + CHINESE, add_special_tokens=False) == tokenizer.encode(ENGLISH + CHINESE)
    assert other.mask_token_id == tokenizer.special_id("mask")
    if tokenizer.kind == "wordpiece":
        frame = [tokenizer.special_id("cls"), *tokenizer.encode("the dog"), tokenizer.special_id("sep")]
        assert other.encode("the dog") == frame


VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "##s", "The"]


@pytest.mark.parametrize(
    ("settings", "token"), [(None, "the"), ('{"do_lower_case": true}', "the"), ('{"do_lower_case": false}', "The")]
)
def test_an_old_vocabulary_file_is_read(tmp_path, settings, token):
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    if settings:
        (tmp_path / "tokenizer_config.json").write_text(settings)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.kind == "wordpiece"
    assert [VOCABULARY[index] for index in loaded.encode("The dogs")] == [token, "dog", "##s"]
    assert not {2, 3, 4} & set(loaded.encode("[CLS] [MASK]"))


BAD_VOCABULARIES = {
    "empty": b"",
    "not text": b"\xff\xfe\x00\x01",
    "without special tokens": b"the\ndog\n",
    "without the unknown": b"[PAD]\n[CLS]\n[SEP]\n[MASK]\nthe\n",
    "a token twice": "\n".join([*VOCABULARY, "dog", "last"]).encode(),
}


@pytest.mark.parametrize("name", BAD_VOCABULARIES)
def test_a_vocabulary_file_that_makes_no_sense_is_refused(tmp_path, name):
    (tmp_path / "vocab.txt").write_bytes(BAD_VOCABULARIES[name])
    with pytest.raises(UserError) as caught:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "3", "{", ""])
def test_settings_beside_a_vocabulary_file_that_make_no_sense_are_refused(tmp_path, text):
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    (tmp_path / "tokenizer_config.json").write_text(text)
    with pytest.raises(UserError, match=r"tokenizer_config.json"):
        Tokenizer.load(tmp_path)


def hostile(change, kind="bpe"):
    """Return the text of a tokenizer.json with something done to it."""
    values = json.loads(Tokenizer.train(TEXTS, kind=kind, vocab_size=SIZES[kind]).backend.to_str())
    change(values)
    return json.dumps(values)


def renumbered(index):
    """Give the last token another id."""

    def change(values):
        vocabulary = values["model"]["vocab"]
        vocabulary[max(vocabulary, key=vocabulary.get)] = index

    return change


def emptied(values):
    values["model"] |= {"vocab": {}, "merges": []}
    values["added_tokens"] = []


def without_unknown(values):
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] != "[UNK]"]
    vocabulary = [token for token in values["model"]["vocab"] if token != "[UNK]"]
    values["model"]["vocab"] = {token: index for index, token in enumerate(vocabulary)}
    values["added_tokens"] = []
    values["post_processor"] = None


def merging_unknowns(values):
    values["model"]["merges"].append(["zzz", "yyy"])


def merging_nothing(values):
    values["model"]["merges"].append(["", ""])


def of_unknown_kind(values):
    values["model"]["type"] = "Sorcery"


def with_broken_pattern(values):
    values["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}


HOSTILE = {
    "empty file": lambda: "",
    "not JSON": lambda: "hello",
    "cut off": lambda: hostile(lambda _: None)[:-20],
    "a list": lambda: "[]",
    "null": lambda: "null",
    "an empty object": lambda: "{}",
    "nested too deep": lambda: "[" * 100_000,
    "a key twice": lambda: '{"version": "1.0", "version": "1.0"}',
    "empty vocabulary": lambda: hostile(emptied),
    "a gap": lambda: hostile(renumbered(5000)),
    "two tokens of one id": lambda: hostile(renumbered(5)),
    "a huge id": lambda: hostile(renumbered(2**32 - 1)),
    "an id too large": lambda: hostile(renumbered(2**32)),
    "a negative id": lambda: hostile(renumbered(-1)),
    "a fractional id": lambda: hostile(renumbered(1.5)),
    "an id that is text": lambda: hostile(renumbered("7")),
    "a merge of unknown tokens": lambda: hostile(merging_unknowns),
    "a merge of nothing": lambda: hostile(merging_nothing),
    "an unknown model": lambda: hostile(of_unknown_kind),
    "a broken pattern": lambda: hostile(with_broken_pattern),
    "no unknown token": lambda: hostile(without_unknown, "wordpiece"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_sentence(tmp_path, name):
    (tmp_path / "tokenizer.json").write_text(HOSTILE[name]())
    with pytest.raises(UserError, match=r"tokenizer.json") as caught:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_huge_file_is_refused_unread(tmp_path):
    with (tmp_path / "tokenizer.json").open("wb") as stream:
        stream.truncate(LIMIT + 1)  # a hole in the file, no disk
    with pytest.raises(UserError, match="is larger than the 64 MiB that a tokenizer may have"):
        Tokenizer.load(tmp_path)


def test_what_is_not_utf_8_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match="is not valid JSON"):
        Tokenizer.load(tmp_path)


def test_no_file_at_all_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"there is no tokenizer.json in|nowhere' is not there"):
            Tokenizer.load(place)


def test_padding_and_truncation_of_a_file_are_switched_off(tmp_path, bpe):
    other = copy.deepcopy(bpe.backend)
    other.enable_truncation(2)
    other.enable_padding(length=50)
    (tmp_path / "tokenizer.json").write_text(other.to_str())
    loaded = Tokenizer.load(tmp_path)
    assert loaded.encode(ENGLISH) == bpe.encode(ENGLISH)
    assert [len(ids) for ids in loaded.encode_batch(["the", ENGLISH])] == [
        len(bpe.encode("the")),
        len(bpe.encode(ENGLISH)),
    ]


@pytest.mark.parametrize("text", ["\ud800", None, 3, b"bytes"])
def test_what_is_no_text_is_refused(tokenizer, text):
    for call in (tokenizer.encode, lambda each: tokenizer.encode_batch(["fine", each])):
        with pytest.raises(UserError, match="only Unicode text can be encoded, and one of these is not"):
            call(text)


@pytest.mark.parametrize(("count", "size", "sizes"), [(0, 3, []), (3, 3, [3]), (7, 3, [3, 3, 1]), (2, 5, [2])])
def test_in_batches(count, size, sizes):
    groups = list(in_batches(iter(range(count)), size))
    assert [len(group) for group in groups] == sizes
    assert [item for group in groups for item in group] == list(range(count))


def test_the_settings_beside_a_file_say_which_token_has_which_role(tmp_path, bpe):
    bpe.save(tmp_path)
    named = {
        "eos_token": "[SEP]",
        "unk_token": {"content": "[SEP]"},
        "pad_token": None,
        "cls_token": "not there",
        "sep_token": 3,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named), encoding="utf-8")
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        loaded = Tokenizer.load(path)
        end = loaded.backend.token_to_id("[SEP]")
        usual = {role: bpe.special_ids[role] for role in ("bos", "pad", "cls", "sep", "mask")}
        assert loaded.special_ids == {**usual, "eos": end, "unk": end}
        assert loaded.unknown_id is None
        assert loaded.framed_as_bert().special_ids == loaded.special_ids
    (tmp_path / "tokenizer_config.json").write_text("[]", encoding="utf-8")
    assert Tokenizer.load(tmp_path).special_ids == bpe.special_ids


def test_the_frame_is_what_other_libraries_put_around_a_text(tokenizer):
    special, (before, after) = tokenizer.special_ids, tokenizer.frame()
    first = {"bpe": "bos", "wordpiece": "cls", "unigram": "bos"}[tokenizer.kind]
    last = {"bpe": [], "wordpiece": ["sep"], "unigram": ["eos"]}[tokenizer.kind]
    assert (before, after) == ([special[first]], [special[role] for role in last])
    assert tokenizer.unknown_id == special.get("unk")
