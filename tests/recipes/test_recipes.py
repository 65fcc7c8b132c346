from dataclasses import replace

import pytest
import torch

from bothways.errors import UserError
from bothways.model.heads import Model
from bothways.recipes.gpt import SIZES
from bothways.recipes.recipe import recipe, recipe_names


def parameters(name, heads):
    with torch.device("meta"):  # shapes alone, no memory
        return Model(recipe(name).model, heads).num_parameters()


def counted_by_hand(size):
    """Weights of a language model: embeddings, head, four projections, three matrices with a gate, two norms a layer."""
    hidden_size, layers, _, intermediate_size = SIZES[size]
    layer = 4 * hidden_size**2 + 3 * hidden_size * intermediate_size + 2 * hidden_size
    return 2 * 8192 * hidden_size + layers * layer + hidden_size


@pytest.mark.parametrize(
    ("size", "millions"), [("tiny", 1.2), ("mini", 5.4), ("small", 15.1), ("medium", 41.3), ("base", 97.5)]
)
def test_our_sizes_have_the_parameters_that_the_readme_says(size, millions):
    assert parameters(f"gpt-{size}", {"language_model": 0}) == counted_by_hand(size)
    assert parameters(f"bert-{size}", {"language_model": 0}) == counted_by_hand(size)
    assert counted_by_hand(size) / 1e6 == pytest.approx(millions, abs=0.06)


def test_published_models_have_their_published_size():
    assert parameters("gpt2-small", {"language_model": 0}) == 124_439_808
    assert parameters("bert-base-uncased", {"language_model": 0, "next_sentence": 2}) == 110_106_428


@pytest.mark.parametrize("size", SIZES)
def test_a_bert_is_the_gpt_of_its_size_looking_both_ways(size):
    bert, gpt = recipe(f"bert-{size}").model, recipe(f"gpt-{size}").model
    assert replace(bert, attention="causal", pooling="last", pooler="none") == gpt
    assert bert.attention == "bidirectional"


@pytest.mark.parametrize("name", recipe_names())
def test_the_objective_and_the_tokenizer_suit_the_model(name):
    experiment = recipe(name)
    masked = experiment.model.attention == "bidirectional"
    one_way = "hybrid" if experiment.model.hybrid else "causal_lm"
    assert experiment.objective.name == ("masked_lm" if masked else one_way)
    assert experiment.tokenizer == ("wordpiece" if masked else "bpe")


def test_names_are_sorted_and_all_can_be_found():
    assert recipe_names() == sorted(set(recipe_names()))
    assert {"gpt-tiny", "bert-mini", "gpt2-small", "bert-base-uncased"} <= set(recipe_names())


@pytest.mark.parametrize("name", ["gpt-min", "GPT-MINI", "gpt", ""])
def test_an_unknown_name_is_refused_with_those_that_exist(name):
    with pytest.raises(UserError, match=r"unknown recipe .*; legal: bert-base, bert-base-uncased") as caught:
        recipe(name)
    assert ("Did you mean 'gpt-mini'?" in str(caught.value)) == (name.lower() in ("gpt-min", "gpt-mini"))
