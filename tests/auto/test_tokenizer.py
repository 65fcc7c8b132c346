"""AutoTokenizer against transformers' own class on the same files, and where ours deliberately differs."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
import transformers

from bothways.auto import AutoTokenizer, Encodings
from bothways.errors import UserError
from bothways.text.tokenizing.tokenizer import Tokenizer

TEXTS = ["the film was lovely", "a dull story", "", "music " * 40]
OTHERS = ["and moving", "a very very tedious plot with a great scene", "the actor", "bad " * 30]
COLUMNS = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture
def bert(folders):
    return AutoTokenizer.from_pretrained(folders["bert"])


@pytest.fixture
def gpt(folders):
    return AutoTokenizer.from_pretrained(folders["gpt2"])


@pytest.fixture(scope="module")
def theirs(folders):
    backend = str(folders["bert"] / "tokenizer.json")
    specials = {
        role: f"[{role.split('_')[0].upper()}]" for role in ("pad_token", "unk_token", "cls_token", "sep_token")
    }
    return transformers.PreTrainedTokenizerFast(
        tokenizer_file=backend, model_max_length=64, model_input_names=list(COLUMNS), **specials
    )


@pytest.mark.parametrize("pair", [None, OTHERS])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"truncation": True, "padding": True},
        {"truncation": True, "max_length": 12},
        {"truncation": "longest_first", "max_length": 9, "padding": "max_length"},
        {"padding": "longest"},
        {"add_special_tokens": False, "truncation": True, "max_length": 10},
        {"padding": "max_length", "truncation": True},
        {"truncation": True, "padding": True, "return_tensors": "np"},
        {"truncation": True, "padding": True, "return_tensors": "pt"},
    ],
)
def test_gives_what_transformers_gives(bert, theirs, pair, options):
    ours, expected = bert(TEXTS, pair, **options), theirs(TEXTS, pair, **options)
    assert set(ours) == set(expected)
    for name in COLUMNS:
        assert type(ours[name]) is type(expected[name])
        same = np.array_equal if "return_tensors" in options else list.__eq__
        assert same(ours[name], expected[name])


@pytest.mark.parametrize("room", range(3, 15))
def test_cuts_pairs_as_transformers_does(bert, theirs, room):
    options = {"truncation": True, "max_length": room}
    for first, second in (("a a a a a", "the the"), ("a a", "the the the the the"), ("a a a a", "the the the the")):
        assert bert(first, second, **options).input_ids == theirs(first, second, **options)["input_ids"]


@pytest.mark.parametrize("strategy", ["only_first", "only_second"])
def test_cuts_one_text_of_a_pair(bert, theirs, strategy):
    first, second = "a film was lovely and great", "the plot was very dull and bad"
    options = {"truncation": strategy, "max_length": 14}
    assert bert(first, second, **options).input_ids == theirs(first, second, **options)["input_ids"]


def test_a_single_text_is_flat_and_a_tensor_of_it_has_one_row(bert, theirs):
    assert bert("a film").input_ids == theirs("a film")["input_ids"]
    assert bert("a film", return_tensors="pt").input_ids.tolist() == [bert("a film").input_ids]
    assert bert.encode("a film", "was great") == bert("a film", "was great").input_ids
    assert bert.encode("a film", add_special_tokens=False) == bert("a film").input_ids[1:-1]
    assert bert.encode("a film", truncation=True, max_length=3) == bert("a").input_ids
    assert len(bert("a film")) == 1


def test_decodes(bert):
    ids = bert(["the film was lovely", "a story"], padding=True, return_tensors="pt").input_ids
    padding = ids[1].tolist().count(bert.pad_token_id)
    assert bert.decode(ids[1]) == "[CLS] a story [SEP]" + " [PAD]" * padding
    assert bert.batch_decode(ids, skip_special_tokens=True) == ["the film was lovely", "a story"]


def test_knows_the_special_tokens_and_the_limit(bert, gpt):
    assert (bert.pad_token_id, bert.pad_token) == (0, "[PAD]")
    assert (bert.cls_token, bert.sep_token, bert.mask_token) == ("[CLS]", "[SEP]", "[MASK]")
    assert bert.eos_token_id is None
    assert bert.bos_token is None
    assert gpt.eos_token == "<|endoftext|>"
    assert bert.model_max_length == gpt.model_max_length == 64
    assert len(bert) == len(bert.tokenizer)
    with pytest.raises(AttributeError, match="no attribute 'pad_tokens'"):
        _ = bert.pad_tokens


def test_only_a_model_with_segments_gets_them(bert, gpt):
    assert list(bert("a film")) == ["input_ids", "token_type_ids", "attention_mask"]
    assert list(gpt("a film")) == ["input_ids", "attention_mask"]


def test_pads_for_a_gpt_that_has_no_padding_token(tmp_path, folders):
    data = json.loads((folders["gpt2"] / "tokenizer.json").read_text())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] == "<|endoftext|>"]
    vocabulary = sorted(data["model"]["vocab"], key=data["model"]["vocab"].get)
    kept = [token for token in vocabulary if token not in ("[PAD]", "[SEP]", "[MASK]")]
    data["model"]["vocab"] = {token: index for index, token in enumerate(kept)}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    encodings = tokenizer(["a film was great", "a"], padding=True)
    assert tokenizer.pad_token_id is None
    start, letter, *padding = encodings.input_ids[1]
    assert start == tokenizer.bos_token_id != letter
    assert set(padding) == {tokenizer.eos_token_id}
    assert encodings.attention_mask[1] == [1, 1] + [0] * (len(encodings.input_ids[0]) - 2)


def test_special_tokens_in_a_text_are_letters_unless_asked_for(bert):
    assert bert.mask_token_id not in bert("a [MASK] film").input_ids
    assert bert.mask_token_id in bert("a [MASK] film", split_special_tokens=False).input_ids
    assert bert.mask_token_id not in bert("a [MASK] film").input_ids


def test_truncation_and_padding_stored_in_a_file_do_not_stick(tmp_path, folders):
    data = json.loads((folders["bert"] / "tokenizer.json").read_text())
    data["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    assert len(AutoTokenizer.from_pretrained(tmp_path)("a film was great and moving").input_ids) > 4


def test_saves_and_loads(bert, tmp_path):
    bert.save_pretrained(tmp_path / "new" / "folder")
    again = AutoTokenizer.from_pretrained(tmp_path / "new" / "folder")
    assert again(TEXTS, OTHERS).items() == bert(TEXTS, OTHERS).items()
    assert again.model_max_length == 64
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "new" / "folder")
    assert theirs(TEXTS, truncation=True)["input_ids"] == bert(TEXTS, truncation=True).input_ids


def test_the_smaller_of_two_limits_counts(folders, tmp_path):
    tokenizer = Tokenizer.load(folders["bert"])
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    for limit, expected in ((128, 128), (10**30, 512)):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": limit}))
        assert AutoTokenizer.of_model(tokenizer, tmp_path).model_max_length == expected


def test_reads_an_old_vocabulary_file(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film")))
    assert AutoTokenizer.from_pretrained(tmp_path)("A film").input_ids == [2, 5, 6, 3]


def test_encodings_are_a_mapping_with_rows(bert):
    encodings = bert(TEXTS)
    assert {**encodings} == dict(encodings) == {name: encodings[name] for name in encodings}
    assert len(encodings) == 4
    assert len(encodings.keys()) == 3
    assert encodings.input_ids == encodings["input_ids"]
    assert "input_ids" in encodings
    assert encodings[:2].input_ids == encodings.input_ids[:2]
    assert encodings[[3, 0]].attention_mask == [encodings.attention_mask[3], encodings.attention_mask[0]]
    assert encodings[np.array([True, False, False, True])].input_ids == encodings[[0, 3]].input_ids
    assert encodings[-1].input_ids == encodings.input_ids[-1]
    assert repr(encodings) == "Encodings(4 texts: input_ids, token_type_ids, attention_mask)"


@pytest.mark.parametrize("kind", ["np", "pt"])
def test_encodings_of_arrays_have_rows_too(bert, kind):
    encodings = bert(TEXTS, padding=True, truncation=True, return_tensors=kind)
    assert len(encodings) == 4
    assert encodings[1:3].input_ids.tolist() == encodings.input_ids[1:3].tolist()
    assert encodings[2].input_ids.tolist() == encodings.input_ids[2].tolist()


def test_encodings_can_be_copied_and_tell_what_is_not_there(bert):
    encodings = bert(TEXTS)
    for again in (copy.deepcopy(encodings), pickle.loads(pickle.dumps(encodings))):
        assert isinstance(again, Encodings)
        assert dict(again) == dict(encodings)
    with pytest.raises(AttributeError, match="no 'labels'"):
        _ = encodings.labels
    with pytest.raises(KeyError):
        encodings["labels"]
    with pytest.raises(IndexError):
        encodings[4]
    with pytest.raises(IndexError, match="a single text"):
        bert("a film")[0]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1, 2],), {}, r"text\[0\] must be a text, not 1"),
        ((["a", None],), {}, r"text\[1\] must be a text, not None"),
        ((None,), {}, "text must be a text or a list of texts"),
        ((["a", "b"], ["a"]), {}, "there are 2 texts and 1 in text_pair"),
        ((["a"], "a"), {}, "there are 1 texts and 1 in text_pair; give one for each"),
        ((["a"],), {"truncation": "shortest"}, "unknown value of truncation: 'shortest'"),
        ((["a"],), {"padding": "longst"}, "Did you mean 'longest'"),
        ((["a"],), {"truncation": True, "max_length": 0}, "max_length must be a whole number of at least 1"),
        ((["a"],), {"truncation": True, "max_length": 1}, "leaves no room for a text"),
        ((["a", "a film"],), {"return_tensors": "np"}, "texts of different lengths make no array"),
        ((["a"],), {"return_tensors": "tf"}, "unknown value of return_tensors: 'tf'; legal: np, pt"),
        ((["a a a"], ["a"]), {"truncation": "only_second", "max_length": 5}, "cutting it 'only_second' is not enough"),
    ],
)
def test_mistakes_get_a_sentence(bert, arguments, options, message):
    with pytest.raises(UserError, match=message):
        bert(*arguments, **options)


def test_no_tokenizer_and_no_limit_get_a_sentence(tmp_path, folders):
    with pytest.raises(UserError, match="there is no folder"):
        AutoTokenizer.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no tokenizer"):
        AutoTokenizer.from_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="knows no limit of its model; give max_length"):
        AutoTokenizer(Tokenizer.load(folders["bert"]))("a", truncation=True)


def test_a_file_in_the_way_gets_a_sentence(bert, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        bert.save_pretrained(tmp_path / "file")


def test_tensors_are_whole_numbers(bert):
    encodings = bert(TEXTS[:1], return_tensors="pt")
    assert {column.dtype for column in encodings.values()} == {torch.int64}
