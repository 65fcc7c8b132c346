"""GGUF, as llama.cpp runs it: GPTs of the Llama family, and BERTs as encoders of texts.

Source: the GGUF specification of ggml; llama.cpp's convert_hf_to_gguf.
"""

import json
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bothways.checkpoints import gguf as reading
from bothways.checkpoints.checkpoint import Loaded
from bothways.checkpoints.family import Family, family_for
from bothways.checkpoints.weights import to_tensors
from bothways.errors import UserError
from bothways.exports.export import Answers, one_by_one
from bothways.inference.encode import encode, read_tokens
from bothways.text.tokenizing.tokenizer import Tokenizer

PRECISIONS = {"fp32": 2e-3, "fp16": 0.05, "q8_0": 0.5}
APPROXIMATE = 0.05  # borne of BERTs at least: llama.cpp takes GELU by its tanh formula, from a table in half precision
NEEDS = {"gguf": "gguf", "xllamacpp": "llamacpp"}
LIBRARY = "gguf"
FILE = "model.gguf"
GPTS = ("llama", "qwen3")

BERT_MODULES = {
    "bert.embeddings.word_embeddings": "token_embd",
    "bert.embeddings.position_embeddings": "position_embd",
    "bert.embeddings.token_type_embeddings": "token_types",
    "bert.embeddings.LayerNorm": "token_embd_norm",
}
BERT_PARTS = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_EXACT = ("position_embd", "token_types")  # llama.cpp aborts where they are in another type
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # types of tokens


def refuse(loaded: Loaded) -> None:
    """Refuse what llama.cpp has no architecture for.

    Raises:
        UserError: it has none, or the model has no tokenizer that it could be told of.
    """
    family = family_for(loaded.model.config)
    if family.MODEL_TYPE not in (*GPTS, "bert"):
        raise UserError(
            f"gguf has no place for a model of the family {family.MODEL_TYPE}; it has for {', '.join(GPTS)} and bert"
        )
    if family.MODEL_TYPE in GPTS and "language_model" not in loaded.model.heads:
        raise UserError("gguf holds a GPT with its language model head, and this model has none")
    kind = "wordpiece" if family.MODEL_TYPE == "bert" else "bpe"
    if loaded.tokenizer is None or loaded.tokenizer.kind != kind:
        raise UserError(f"gguf holds such a model with a {kind} tokenizer, and this model has another, or none")
    if _cut_by(loaded.tokenizer) is None:
        raise UserError(
            "llama.cpp would cut text into other tokens than this model's tokenizer does: it knows BPE as it is cut by "
            f"{', '.join(reading.PRE_TOKENIZERS)}, without a normalizer, and WordPiece in lower case"
        )


def write(loaded: Loaded, folder: Path, precision: str) -> None:
    """Write the one file."""
    import gguf

    assert loaded.tokenizer is not None
    family = family_for(loaded.model.config)
    values = family.write_config(loaded.model.config, {})
    writer = gguf.GGUFWriter(folder / FILE, family.MODEL_TYPE)
    _add_settings(writer, values, family.MODEL_TYPE)
    _add_tokenizer(writer, loaded.tokenizer, bert=family.MODEL_TYPE == "bert")
    kind = {"fp32": "F32", "fp16": "F16", "q8_0": "Q8_0"}[precision]
    for name, weight in _tensors(loaded, family, values):
        exact = weight.ndim < 2 or name.partition(".")[0] in _EXACT or (kind == "Q8_0" and weight.shape[1] % 32)
        stored = "F32" if exact else kind
        number = gguf.GGMLQuantizationType[stored]
        writer.add_tensor(name, gguf.quants.quantize(weight, number), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_settings(writer: Any, values: Mapping[str, Any], architecture: str) -> None:
    writer.add_embedding_length(values["hidden_size"])
    writer.add_block_count(values["num_hidden_layers"])
    writer.add_head_count(values["num_attention_heads"])
    writer.add_feed_forward_length(values["intermediate_size"])
    writer.add_context_length(values["max_position_embeddings"])
    writer.add_vocab_size(values["vocab_size"])
    if architecture == "bert":
        writer.add_layer_norm_eps(values["layer_norm_eps"])
        writer.add_causal_attention(False)
        from gguf import PoolingType

        writer.add_pooling_type(PoolingType.MEAN)
        return
    writer.add_head_count_kv(values["num_key_value_heads"])
    writer.add_key_length(values["head_dim"])
    writer.add_value_length(values["head_dim"])
    writer.add_rope_dimension_count(values["head_dim"])
    writer.add_rope_freq_base(values["rope_theta"])
    writer.add_layer_norm_rms_eps(values["rms_norm_eps"])


def _cut_by(tokenizer: Tokenizer) -> str | None:
    """Return what llama.cpp calls the way in which text is cut before it is tokenized; None: it does not know it."""
    values = json.loads(tokenizer.backend.to_str())
    normalizer, cutter = values["normalizer"], values["pre_tokenizer"]
    if tokenizer.kind == "wordpiece":
        return "default" if normalizer and normalizer.get("lowercase") else None
    parts = cutter.get("pretokenizers", [cutter]) if cutter else []

    def essence(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{name: value for name, value in part.items() if name != "trim_offsets"} for part in found]

    known = (name for name, theirs in reading.PRE_TOKENIZERS.items() if essence(theirs) == essence(parts))
    return None if normalizer else next(known, None)


def _add_tokenizer(writer: Any, tokenizer: Tokenizer, *, bert: bool) -> None:
    vocabulary = tokenizer.backend.get_vocab()
    tokens = [token for token, _ in sorted(vocabulary.items(), key=lambda item: item[1])]
    added = tokenizer.backend.get_added_tokens_decoder()
    special = {index for index, token in added.items() if token.special} | set(tokenizer.special_ids.values())
    kinds = {**dict.fromkeys(added, _USER_DEFINED), **dict.fromkeys(special, _CONTROL)}
    if bert:  # words begin with a mark, and what goes on with a word has none
        words = [token[2:] if token.startswith("##") else f"▁{token}" for token in tokens]
        tokens = [
            token if index in special else word for index, (token, word) in enumerate(zip(tokens, words, strict=True))
        ]
    writer.add_tokenizer_model("bert" if bert else "gpt2")
    writer.add_tokenizer_pre(_cut_by(tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(index, _NORMAL) for index in range(len(tokens))])
    if bert:
        writer.add_token_type_count(2)
    else:
        merges = json.loads(tokenizer.backend.to_str())["model"]["merges"]
        writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    roles = {"cls" if bert and role == "bos" else role: name for role, name in reading.ROLES.items()}
    for role in roles.keys() & tokenizer.special_ids.keys():
        writer.add_uint32(f"tokenizer.ggml.{roles[role]}", tokenizer.special_ids[role])
    before, after = tokenizer.frame()
    writer.add_add_bos_token(bool(before))
    writer.add_add_eos_token(bool(after))


def _tensors(loaded: Loaded, family: Family, values: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the weights that llama.cpp reads, under its names and in its order."""
    modules = {ours: name for name, ours in reading.MODULES.items()} | BERT_MODULES
    parts = {ours: name for name, ours in reading.PARTS.items()} | BERT_PARTS
    heads = {"attn_q": values["num_attention_heads"], "attn_k": values.get("num_key_value_heads")}
    for name, weight in to_tensors(loaded.model, family).items():
        module, _, leaf = name.rpartition(".")
        if module in modules:
            yield f"{modules[module]}.{leaf}", weight.float().cpu().numpy()
            continue
        _, _, rest = module.partition("layers." if family.MODEL_TYPE in GPTS else "layer.")
        layer, _, part = rest.partition(".")
        if part in parts:
            turned = family.MODEL_TYPE in reading.TURNED and parts[part] in heads
            weight = in_pairs(weight, heads[parts[part]]) if turned else weight
            yield f"blk.{layer}.{parts[part]}.{leaf}", weight.float().cpu().contiguous().numpy()


def in_pairs(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Return the rows of queries or keys in llama.cpp's order."""
    rows, *columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, *columns).transpose(1, 2).reshape(rows, *columns)


def tolerance(loaded: Loaded, precision: str) -> float:
    """Return the largest difference that is borne."""
    bert = family_for(loaded.model.config).MODEL_TYPE == "bert"
    return max(PRECISIONS[precision], APPROXIMATE if bert else 0.0)


def ours(loaded: Loaded, sequences: Sequence[Sequence[int]]) -> Answers:
    """Return what can be asked of llama.cpp: log-probabilities of the next token [vocab_size], or vectors."""
    if family_for(loaded.model.config).MODEL_TYPE == "bert":
        return {"embedding": list(encode(loaded.model, sequences))}
    asked = _with_room(loaded, sequences)
    last = [[len(sequence) - 1] for sequence in asked]
    logits = read_tokens(loaded.model, "language_model", asked, positions=last)
    return {"language_model": [torch.from_numpy(each[0]).double().log_softmax(0).numpy() for each in logits]}


def answers(folder: Path, loaded: Loaded, sequences: Sequence[Sequence[int]]) -> Answers:
    """Ask llama.cpp."""
    bert = family_for(loaded.model.config).MODEL_TYPE == "bert"
    server = open_server(folder / FILE, loaded.model.config.max_position_embeddings, bert=bert)
    size = loaded.model.config.vocab_size
    # What is written does not matter, but where it is the end, or half a character, nothing is said of all the others.
    letter = loaded.tokenizer.encode("a")[0] if loaded.tokenizer else 0
    asked = {"n_predict": 1, "temperature": 0, "n_probs": size, "cache_prompt": False, "logit_bias": [[letter, 1000.0]]}

    def ask(sequence: Sequence[int]) -> Mapping[str, Any]:
        if bert:
            said = server.handle_embeddings({"input": list(sequence)})
            return {"embedding": np.array(said["data"][0]["embedding"])}
        said = server.handle_completions({**asked, "prompt": list(sequence)})
        found = np.full(size, np.nan)
        for each in said["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
            found[each["id"]] = each["logprob"]
        return {"language_model": found}

    return one_by_one(ask, sequences if bert else _with_room(loaded, sequences))


def tokenize(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """Ask llama.cpp to cut texts; names of special tokens in them are plain letters."""
    server = open_server(folder / FILE, 32, bert=False)
    asked = {"add_special": True, "parse_special": False}
    return [list(post(server, "/tokenize", {"content": text, **asked})["tokens"]) for text in texts]


def post(server: Any, path: str, values: Mapping[str, Any]) -> Any:
    """Return what an open llama.cpp answers to a request that its Python class has no function for."""
    request = urllib.request.Request(
        f"{server.listening_address}{path}", json.dumps(values).encode(), {"Content-Type": "application/json"}
    )
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with without_proxy.open(request) as answer:
        return json.load(answer)


def open_server(file: Path, length: int, *, bert: bool) -> Any:
    """Return llama.cpp with a file open, as exact as it can be; it ends when nothing holds it.

    Args:
        file: of any GGUF.
        length: tokens that it can read.
        bert: it gives vectors, not text.
    """
    import xllamacpp as llama

    parameters = llama.CommonParams()
    parameters.model.path = str(file)
    parameters.n_ctx = length
    parameters.n_parallel = 1
    parameters.n_gpu_layers = 0
    parameters.embedding = bert
    parameters.warmup = False
    parameters.verbosity = 0
    parameters.cpuparams.n_threads = 1
    parameters.cache_type_k = parameters.cache_type_v = llama.ggml_type.GGML_TYPE_F32  # half as exact by default
    parameters.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return llama.Server(parameters)


def _with_room(loaded: Loaded, sequences: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Return sequences after which there is room for a token, without which llama.cpp says nothing."""
    return [sequence[: loaded.model.config.max_position_embeddings - 1] for sequence in sequences]


def usage(loaded: Loaded) -> str:
    """With ``xllamacpp``, or any other program that llama.cpp is in."""
    bert = loaded.model.config.attention == "bidirectional"
    asked = (
        'server.handle_embeddings({"input": "A text."})'
        if bert
        else 'server.handle_completions({"prompt": "It was", "n_predict": 32})'
    )
    embedding = "parameters.embedding = True\n" if bert else ""
    return (
        "With `pip install xllamacpp`, or with any other program that llama.cpp is in:\n\n"
        f'```python\nimport xllamacpp\n\nparameters = xllamacpp.CommonParams()\nparameters.model.path = "{FILE}"\n'
        f"{embedding}server = xllamacpp.Server(parameters)\nprint({asked})\n```"
    )
