"""GGUF files of the Llama family say here what they say where they came from."""

import json

import gguf
import numpy as np
import pytest
import torch
import transformers

from bothways.batch import collate, row
from bothways.checkpoints.checkpoint import load, load_checkpoint
from bothways.checkpoints.gguf import MODULES, PARTS, PRE_TOKENIZERS
from bothways.errors import DamagedFileError, UserError
from bothways.inference.generate import generate
from bothways.inference.sampling import GREEDY
from bothways.tasks import task
from bothways.tasks.task import write as continue_texts
from bothways.text.tokenizing.tokenizer import Tokenizer

TEXT = ["The old man and the sea.", "It's 1984, isn't it? 我们去北京。 naïve\n\n  two  spaces"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


@pytest.fixture(scope="module")
def bpe():
    return Tokenizer.train(TEXT * 20, kind="bpe", vocab_size=300, exact=False)


def make_llama(vocab_size, **settings):
    torch.manual_seed(0)
    settings = {"num_key_value_heads": 2, **settings}
    config = transformers.LlamaConfig(
        **SIZES, vocab_size=vocab_size, max_position_embeddings=64, rope_theta=500.0, **settings
    )
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(1.0 if weight.dim() == 1 else 0.0, 0.2)
    return model


def in_pairs(weight, heads):
    """Return the rows of queries or keys as llama.cpp keeps them."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write(file, model, tokenizer, *, kind=None, pre="gpt-2", architecture="llama", roles=None):
    """Write a model as llama.cpp's converter does."""
    config = model.config
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    if config.num_key_value_heads != config.num_attention_heads:
        writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    vocabulary = sorted(tokenizer.backend.get_vocab().items(), key=lambda item: item[1])
    special = set(tokenizer.special_ids.values())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if index in special else 1 for _, index in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in json.loads(tokenizer.backend.to_str())["model"]["merges"]])
    for role, value in (roles or {}).items():
        getattr(writer, f"add_{role}")(value)
    theirs = {ours: name for name, ours in MODULES.items()}
    parts = {ours: name for name, ours in PARTS.items()}
    for name, weight in model.state_dict().items():
        module, _, leaf = name.rpartition(".")
        if module == "lm_head" and config.tie_word_embeddings:
            continue
        if module in theirs:
            called = f"{theirs[module]}.{leaf}"
        else:
            _, _, layer, part = module.split(".", 3)
            called = f"blk.{layer}.{parts[part]}.{leaf}"
        values = weight.float().numpy()
        if "q_proj" in name or "k_proj" in name:
            values = in_pairs(values, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads)
        if kind is not None and values.ndim == 2:
            values = gguf.quants.quantize(values, kind)
            writer.add_tensor(called, values, raw_dtype=kind)
        else:
            writer.add_tensor(called, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def logits(loaded, ids):
    batch = collate([row(ids, "causal")])
    with torch.no_grad():
        return loaded.model.eval().read("language_model", loaded.model(batch), batch, torch.arange(len(ids)))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", [None, "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
def test_same_logits(tmp_path, bpe, tied, kind):
    model = make_llama(len(bpe), tie_word_embeddings=tied)
    kind = kind and gguf.GGMLQuantizationType[kind]
    loaded = load(write(tmp_path / "model.gguf", model, bpe, kind=kind))
    for weight in model.parameters() if kind is not None else ():
        if weight.dim() == 2:
            stored = gguf.quants.quantize(weight.detach().numpy(), kind)
            weight.data = torch.from_numpy(gguf.quants.dequantize(stored, kind).copy())
    ids = bpe.encode(TEXT[0])
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0]
    assert expected.std() > 0.3
    torch.testing.assert_close(logits(loaded, ids), expected, rtol=0, atol=1e-5)
    assert loaded.model.config.tie_word_embeddings is tied
    assert [loaded.tokenizer.encode(text) for text in TEXT] == [bpe.encode(text) for text in TEXT]
    assert loaded.tokenizer.decode(loaded.tokenizer.encode(TEXT[1])) == TEXT[1]


def test_where_nothing_is_said_of_key_heads_there_are_as_many(tmp_path, bpe):
    model = make_llama(len(bpe), num_key_value_heads=4)
    loaded = load(write(tmp_path / "model.gguf", model, bpe))
    ids = bpe.encode(TEXT[0])
    with torch.no_grad():
        torch.testing.assert_close(logits(loaded, ids), model(torch.tensor([ids])).logits[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_texts_come_back_whatever_cuts_them(tmp_path, bpe, pre):
    loaded = load_checkpoint(write(tmp_path / "model.gguf", make_llama(len(bpe)), bpe, pre=pre))
    assert [loaded.tokenizer.decode(loaded.tokenizer.encode(text)) for text in TEXT] == TEXT


def test_special_tokens_have_the_roles_that_the_file_gives_them(tmp_path, bpe):
    ids = {
        role: bpe.backend.token_to_id(token) for role, token in (("bos", "[MASK]"), ("eos", "[SEP]"), ("pad", "[SEP]"))
    }
    roles = {**{f"{role}_token_id": index for role, index in ids.items()}, "eot_token_id": 7, "unk_token_id": 10**6}
    model = make_llama(len(bpe))
    tokenizer = load(write(tmp_path / "model.gguf", model, bpe, roles=roles)).tokenizer
    assert {role: tokenizer.special_ids[role] for role in (*ids, "eot")} == {**ids, "eot": 7}
    assert "unk" not in tokenizer.special_ids
    assert tokenizer.frame() == ([], [])
    framed = {**roles, "add_bos_token": True, "add_eos_token": True}
    tokenizer = load(write(tmp_path / "framed.gguf", model, bpe, roles=framed)).tokenizer
    assert tokenizer.frame() == ([ids["bos"]], [ids["eos"]])
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert (again.special_ids, again.frame()) == (tokenizer.special_ids, tokenizer.frame())
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (ids["bos"], ids["eos"], ids["pad"])
    assert theirs(TEXT[0])["input_ids"] == [ids["bos"], *bpe.encode(TEXT[0]), ids["eos"]]


@pytest.mark.parametrize("role", ["eos", "eot"])
def test_writing_stops_at_the_end_that_the_file_names(tmp_path, bpe, monkeypatch, role):
    monkeypatch.setattr(task, "precision_of", lambda _: "fp32")  # in half precision a close race may end otherwise
    model = make_llama(len(bpe))
    free = load(write(tmp_path / "free.gguf", model, bpe))
    prompt = bpe.encode(TEXT[0])
    ids = generate(free.model, [prompt], max_new_tokens=20, forbidden_ids=set(bpe.special_ids.values()))[0].ids
    end = next(index for index in ids[3:] if index not in ids[:3])
    ended = load(write(tmp_path / "ended.gguf", model, bpe, roles={f"{role}_token_id": end}))
    said = [continue_texts(each, [prompt], max_new_tokens=20, sampling=GREEDY)[0] for each in (free, ended)]
    assert said == [bpe.decode(ids), bpe.decode(ids[: ids.index(end)])]


def test_what_is_not_supported_is_refused(tmp_path, bpe):
    model = make_llama(len(bpe))
    with pytest.raises(UserError, match=r"general\.architecture of a GGUF file"):
        load_checkpoint(write(tmp_path / "mamba.gguf", model, bpe, architecture="mamba"))
    with pytest.raises(UserError, match=r"tokenizer .* is not supported; supported: gpt2 with .*put the model's"):
        load_checkpoint(write(tmp_path / "other.gguf", model, bpe, pre="unheard-of"))
    file = write(tmp_path / "whole.gguf", model, bpe)
    for share in (0.0, 0.1, 0.5, 0.99):
        data = file.read_bytes()
        (tmp_path / "cut.gguf").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DamagedFileError, match=r"cut.gguf' is no valid GGUF file"):
            load_checkpoint(tmp_path / "cut.gguf")


def test_a_tokenizer_beside_the_file_wins(tmp_path, bpe):
    file = write(tmp_path / "other.gguf", make_llama(len(bpe)), bpe, pre="unheard-of")
    bpe.save(tmp_path)
    assert load_checkpoint(file).tokenizer.encode(TEXT[0]) == bpe.encode(TEXT[0])
