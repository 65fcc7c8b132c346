"""GGUF files of the Llama family, as llama.cpp runs them, read as a folder in Hugging Face's format would be.

Quantized weights are widened to float32. The ``gguf`` library reads the file (``pip install bothways[gguf]``).

Source: the GGUF specification of ggml; llama.cpp's convert_hf_to_gguf (rows of queries and keys are kept in another order).
"""

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bothways.errors import DamagedFileError, UserError, shown, unknown
from bothways.progress import note
from bothways.text.tokenizing import files
from bothways.text.tokenizing.tokenizer import Tokenizer

ENDING = ".gguf"
FIELDS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}  # Hugging Face's name to that in the file, after the name of the architecture
MODULES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # of layer n: blk.n.… to model.layers.n.…
TURNED = {"llama"}  # architectures whose queries and keys are kept in llama.cpp's order

# How text is cut before byte-level BPE, by the name that llama.cpp gives it.
_SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
PRE_TOKENIZERS = {
    "gpt-2": [{**_BYTES, "use_regex": True}],
    "smollm": [{"type": "Digits", "individual_digits": True}, {**_BYTES, "use_regex": True}],
    "llama-bpe": [{**_SPLIT, "pattern": {"Regex": _LLAMA3}}, _BYTES],
    "qwen2": [{**_SPLIT, "pattern": {"Regex": _QWEN2}}, _BYTES],
}
LLAMA3 = (
    "llama-bpe"  # llama.cpp takes a whole word that is a token as it is here, and puts bos first unless told otherwise
)
ROLES = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "eot": "eot_token_id",
    "unk": "unknown_token_id",
    "sep": "seperator_token_id",
    "pad": "padding_token_id",
    "mask": "mask_token_id",
}  # role of a special token to its name in the file, after tokenizer.ggml
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # types of tokens


class GGUF:
    """An open file: its settings and tokenizer as Hugging Face would write them, and its tensors."""

    def __init__(self, file: Path) -> None:
        """Open a file.

        Raises:
            UserError: the library is not installed, or the model is of another family.
            DamagedFileError: it is no valid file.
        """
        if find_spec("gguf") is None:
            raise UserError(f"to read {file.name} install the extra: pip install 'bothways[gguf]'")
        from gguf import GGUFReader

        self.file = file
        try:
            reader = GGUFReader(file)
            self._values = {name: field.contents() for name, field in reader.fields.items()}
            self._tensors = {tensor.name: tensor for tensor in reader.tensors}
            _check_places(reader)
        except Exception as error:  # the library checks little: a damaged file fails in numpy, or anywhere
            raise DamagedFileError(f"{str(file)!r} is no valid GGUF file: {error}") from None
        self._architecture = self._values.get("general.architecture")
        if self._architecture not in ("llama", "qwen3"):
            raise unknown("general.architecture of a GGUF file", self._architecture, ("llama", "qwen3"))

    def config(self) -> dict[str, Any]:
        """Return what ``config.json`` would hold."""
        found = {theirs: self._values.get(f"{self._architecture}.{name}") for theirs, name in FIELDS.items()}
        found = {name: value for name, value in found.items() if value is not None}
        scaling = self._values.get(f"{self._architecture}.rope.scaling.type") or "none"
        if scaling != "none":
            raise UserError(f"{str(self.file)!r} scales its rotary positions ({scaling}), which is not supported")
        if embeddings := self._tensors.get("token_embd.weight"):
            found["vocab_size"] = int(embeddings.shape[1])
        said = {name: self._values.get(f"general.{name}") for name in ("name", "license", "languages")}
        tied = "output.weight" not in self._tensors
        return {"model_type": self._architecture, **found, "tie_word_embeddings": tied, "general": said}

    def tensors(self) -> "GGUFTensors":
        """Return the weights under Hugging Face's names."""
        config = self.config()  # whose sizes have been checked before any tensor is read
        queries = config.get("num_attention_heads", 0)
        heads = {"attn_q": queries, "attn_k": config.get("num_key_value_heads", queries)}
        return GGUFTensors(self.file, self._tensors, heads if self._architecture in TURNED else {})

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the file, or the ``tokenizer.json`` beside it.

        Raises:
            UserError: the file's is of a kind that we cannot build.
        """
        if (self.file.parent / "tokenizer.json").is_file():
            return Tokenizer.load(self.file.parent / "tokenizer.json")
        model, pre = (self._values.get(f"tokenizer.ggml.{name}") for name in ("model", "pre"))
        if model != "gpt2" or pre not in PRE_TOKENIZERS:
            raise UserError(
                f"the tokenizer in {str(self.file)!r} ({model}, {pre}) is not supported; supported: gpt2 with "
                f"{', '.join(PRE_TOKENIZERS)}; put the model's tokenizer.json beside the file"
            )
        tokens, merges = (self._list(f"tokenizer.ggml.{name}") for name in ("tokens", "merges"))
        kinds = self._values.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
        if (
            not isinstance(kinds, list)
            or len(kinds) != len(tokens)
            or not all(isinstance(token, str) for token in tokens)
        ):
            raise DamagedFileError(f"{str(self.file)!r} has tokens that are no texts, or not one type for each")
        special = [index for index, kind in enumerate(kinds) if kind in (_CONTROL, _USER_DEFINED)]
        roles = self._roles(tokens)
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        values = {
            "version": "1.0",
            "added_tokens": [
                {"id": index, "content": tokens[index], **plain, "special": kinds[index] == _CONTROL}
                for index in special
            ],
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": PRE_TOKENIZERS[pre]},
            "decoder": {**_BYTES, "use_regex": True},
            "model": {
                "type": "BPE",
                "vocab": {token: index for index, token in enumerate(tokens)},
                "merges": merges,
                "unk_token": roles.get("unk"),
                "ignore_merges": pre == LLAMA3,
            },
            **self._frame(tokens, roles, pre),
        }
        return Tokenizer(files.build(values, self.file), roles=roles)

    def _roles(self, tokens: list[str]) -> dict[str, str]:
        """Return role to token; an id that no token has is passed over, as llama.cpp does."""
        found: dict[str, str] = {}
        for role, name in ROLES.items():
            index = self._values.get(f"tokenizer.ggml.{name}")
            if isinstance(index, int) and 0 <= index < len(tokens):
                found[role] = tokens[index]
            elif index is not None:
                note(f"{self.file} names token {index} as its {role}, and has {len(tokens):,}: passed over")
        return found

    def _frame(self, tokens: list[str], roles: Mapping[str, str], pre: str) -> dict[str, Any]:
        """Return the part of a ``tokenizer.json`` that puts bos before a text and eos after it, if the file wants that."""
        before = ["bos"] if self._values.get("tokenizer.ggml.add_bos_token", pre == LLAMA3) else []
        after = ["eos"] if self._values.get("tokenizer.ggml.add_eos_token", False) else []
        used = {role: roles[role] for role in (*before, *after) if role in roles}
        if not used:
            return {}
        first, last = (
            [{"SpecialToken": {"id": used[r], "type_id": 0}} for r in wanted if r in used] for wanted in (before, after)
        )
        single = [*first, {"Sequence": {"id": "A", "type_id": 0}}, *last]
        pair = [*single, *first, {"Sequence": {"id": "B", "type_id": 0}}, *last]
        known = {token: {"id": token, "ids": [tokens.index(token)], "tokens": [token]} for token in used.values()}
        return {
            "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": known}
        }

    def _list(self, name: str) -> list[Any]:
        found = self._values.get(name)
        if not isinstance(found, list):
            raise DamagedFileError(f"{str(self.file)!r} has no list {name}")
        return found


def _check_places(reader: Any) -> None:
    """Refuse tensors that lie over one another or over the settings, which the library reads as they are.

    Raises:
        ValueError: some do.
    """
    end = reader.data_offset
    for tensor in sorted(reader.tensors, key=lambda tensor: tensor.data_offset):
        if tensor.data_offset < end:
            raise ValueError(f"the tensor {shown(tensor.name)!r} begins where something else is")
        end = tensor.data_offset + tensor.n_bytes


class GGUFTensors:
    """The tensors of a file under Hugging Face's names; one is widened when it is asked for."""

    def __init__(self, file: Path, tensors: Mapping[str, Any], heads: Mapping[str, int]) -> None:
        """Name them.

        Args:
            file: where they are from.
            tensors: by the names of the file.
            heads: part to its number of heads, where its rows are in llama.cpp's order.
        """
        self._file, self._heads = file, heads
        self._tensors = {
            _name(name): (name.rpartition(".")[0].rpartition(".")[2], tensor) for name, tensor in tensors.items()
        }

    def rename(self, new_name: Callable[[str], str]) -> None:
        """Know every tensor by another name from here on."""
        self._tensors = {new_name(name): tensor for name, tensor in self._tensors.items()}

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(int(size) for size in reversed(self._tensors[name][1].shape))

    def read_weight(self, name: str) -> Tensor:
        """Return a weight in float32.

        Raises:
            UserError: it is quantized in a way that the library does not know.
            DamagedFileError: it holds an infinite or undefined number.
        """
        from gguf.quants import dequantize

        part, tensor = self._tensors[name]
        try:
            weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).reshape(self.shape(name))
        except (NotImplementedError, ValueError) as error:
            raise UserError(f"the tensor {name!r} in {str(self._file)!r} cannot be read: {error}") from None
        if not torch.isfinite(weight).all():
            raise DamagedFileError(f"the tensor {name!r} in {str(self._file)!r} holds infinite or undefined numbers")
        return _turn_back(weight, self._heads[part]) if self._heads.get(part) else weight


def _name(name: str) -> str:
    """Return Hugging Face's name of a tensor; one that is not known keeps its own, and is refused later."""
    module, _, leaf = name.rpartition(".")
    if module in MODULES:
        return f"{MODULES[module]}.{leaf}"
    first, _, rest = module.partition(".")
    layer, _, part = rest.partition(".")
    if first == "blk" and part in PARTS:
        return f"model.layers.{layer}.{PARTS[part]}.{leaf}"
    return name


def _turn_back(weight: Tensor, heads: int) -> Tensor:
    """Return the rows of queries or keys in Hugging Face's order: halves of a head, where llama.cpp has pairs."""
    rows, *columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, *columns).transpose(1, 2).reshape(rows, *columns)
