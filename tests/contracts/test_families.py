"""What holds for every family in checkpoints/huggingface/, a new one included."""

import ast
import contextlib
import json
import math
from pathlib import Path

import pytest
import torch

from bothways import discover
from bothways.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bothways.checkpoints.family import families, family_for, family_of
from bothways.checkpoints.names import locate
from bothways.checkpoints.settings import survives
from bothways.checkpoints.weights import to_tensors
from bothways.errors import UserError
from bothways.model.config import TransformerConfig
from bothways.model.heads import HEADS, Model

TINY = {
    "vocab_size": 19,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}
LEARNED = {"position": "learned", "norm": "layer", "bias": True}
NEAR = {
    "norm": "layer",
    "norm_bias": False,
    "norm_embeddings": True,
    "activation": "geglu",
    "head_transform": True,
    "head_bias": False,
    "pooler": "transform",
    "local_window": 3,
    "global_every": 3,
    "rope_theta": 500.0,
}
# A family must hold one of these trunks, or the author of a new one adds what it holds.
TRUNKS = {
    "modern causal": {},
    "modern bidirectional": {"attention": "bidirectional", "pooling": "mean", "pooler": "gelu"},
    "grouped, untied": {"num_key_value_heads": 2, "tie_word_embeddings": False, "hidden_dropout": 0.1},
    "gpt": {**LEARNED, "activation": "gelu_tanh", "norm_eps": 1e-5},
    "bert": {
        **LEARNED,
        "attention": "bidirectional",
        "norm_position": "post",
        "activation": "gelu",
        "type_vocab_size": 2,
        "head_transform": True,
        "pooling": "first",
        "pooler": "tanh",
    },
    "distilbert": {
        **LEARNED,
        "attention": "bidirectional",
        "norm_position": "post",
        "norm_eps": 1e-12,
        "activation": "gelu",
        "head_transform": True,
        "pooling": "first",
        "pooler": "relu",
    },
    "normed queries": {"qk_norm": True, "head_size": 6},
    "near": {**NEAR, "attention": "bidirectional", "pooling": "first"},
    "near causal": {**NEAR, "local_rope_theta": 50.0},
    "like no other": {"qk_norm": True, "norm": "layer", "activation": "relu2", "head_size": 6, "pooling": "mean"},
}
TRUNKS["roberta"] = {**TRUNKS["bert"], "type_vocab_size": 1, "position_offset": 2}
NONSENSE = [-1, 0, 10**12, 1.5, "64", None, [], {}, True, math.nan, math.inf]
NAMES = discover.names("checkpoints/huggingface")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def config_of(trunk):
    return TransformerConfig(**TINY, **TRUNKS[trunk])


@pytest.fixture(params=NAMES)
def family(request):
    return discover.find("checkpoints/huggingface", request.param)


def holds(family, config):
    """Whether a family could hold a trunk, even if it leaves it to another."""
    return survives(config, family.write_config, family.read_config)


@pytest.fixture
def configs(family):
    """Return the trunks that this family holds."""
    held = [config_of(trunk) for trunk in TRUNKS if holds(family, config_of(trunk))]
    assert held, "add a trunk of this family to TRUNKS"
    return held


def test_every_trunk_has_the_family_that_computes_it():
    found = {trunk: family_for(config_of(trunk)).MODEL_TYPE for trunk in TRUNKS}
    assert found == {
        "modern causal": "llama",
        "modern bidirectional": "eurobert",
        "grouped, untied": "llama",
        "gpt": "gpt2",
        "bert": "bert",
        "distilbert": "distilbert",
        "normed queries": "qwen3",
        "near": "modernbert",
        "near causal": "modernbert-decoder",
        "like no other": "bothways",
        "roberta": "roberta",
    }


def test_a_trunk_has_one_published_family_at_most():
    for trunk in TRUNKS:
        published = [family.MODEL_TYPE for family in families()[:-1] if family.represents(config_of(trunk))]
        assert len(published) <= 1, (trunk, published)


def test_it_is_found_by_its_model_type_and_imports_no_transformers(family):
    assert family_of(family.MODEL_TYPE) is family
    tree = ast.parse(Path(family.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any((module or "").startswith("transformers") for module in modules)


def test_config_file_is_json_that_names_the_family_and_a_class(family, configs):
    for config in configs:
        for heads in ({}, {"language_model": 0}, {"classification": 3}, {"span": 2}, dict.fromkeys(HEADS, 2)):
            values = family.write_config(config, heads)
            assert json.loads(json.dumps(values)) == values
            assert values["model_type"] == family.MODEL_TYPE
            assert len(values["architectures"]) == 1
            assert holds(family, family.read_config(values))


def test_every_weight_has_one_name_there_and_one_here(family, configs):
    for config in configs:
        model = Model(config, dict.fromkeys(HEADS, 0))
        weights = dict(model.named_parameters())
        sources = locate(family.names(config, tuple(HEADS)), weights)
        ours = [name for source in sources for name in source.ours]
        assert sorted(ours) == sorted(weights)
        tensors = to_tensors(model, family)
        assert len(tensors) == len(sources)
        trunk = [name for name in tensors if name.startswith(family.PREFIX)]
        assert len(trunk) >= len(locate(family.names(config, ()), dict(model.transformer.named_parameters()))) // 2
        shapes = {name: weight.shape for name, weight in weights.items()}
        for source in sources:
            assert tuple(tensors[source.theirs].shape) == source.shape(shapes)
            back = source.split(tensors[source.theirs], shapes)
            assert all(torch.equal(back[name], weights[name]) for name in source.ours)


@pytest.mark.parametrize("heads", [{}, {"language_model": 0}, {"classification": 3, "next_sentence": 0}, "all"])
def test_saved_and_loaded_it_is_the_same(configs, heads, tmp_path):
    heads = dict.fromkeys(HEADS, 0) if heads == "all" else heads
    for config in configs:
        model = Model(config, heads)
        save_checkpoint(tmp_path, model)
        loaded = load_checkpoint(tmp_path)
        assert loaded.model.config == config
        assert (loaded.new_heads, loaded.unused) == ((), ())
        assert list(loaded.model.heads) == list(heads)
        weights = dict(model.named_parameters())
        assert weights.keys() == dict(loaded.model.named_parameters()).keys()
        for name, weight in loaded.model.named_parameters():
            assert torch.equal(weight, weights[name]), name


def test_nonsense_in_the_config_file_is_refused_or_harmless(family, configs):
    for config in configs:
        values = family.write_config(config, {})
        for name in [name for name in values if name not in ("model_type", "architectures")]:
            for nonsense in NONSENSE:
                read = None
                with contextlib.suppress(UserError):  # and nothing else
                    read = family.read_config({**values, name: nonsense})
                assert read is None or holds(family, read), (name, nonsense)


def test_sizes_that_make_no_sense_are_refused_by_name(family, configs):
    values = family.write_config(configs[0], {})
    for name in [name for name, value in values.items() if type(value) is int and value == TINY["num_hidden_layers"]]:
        for nonsense in (-1, 0, 10**9, "2", 2.5, None, True):
            with pytest.raises(UserError, match=name):
                family.read_config({**values, name: nonsense})


def test_what_asks_to_run_code_is_not_looked_at(family, configs):
    values = family.write_config(configs[0], {})
    hostile = {"auto_map": {"AutoModel": "evil.Model"}, "trust_remote_code": True, "custom_pipelines": {"x": "y"}}
    assert family.read_config({**values, **hostile}) == family.read_config(values)
