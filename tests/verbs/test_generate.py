"""Writing from Python; the command line's share is in test_cli."""

import pytest
import torch

from bothways.checkpoints.checkpoint import save_checkpoint
from bothways.errors import UserError
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.verbs.generate import generate


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return the folder of an untrained GPT; its weights are large, so that no two tokens are about equally likely."""
    folder = tmp_path_factory.mktemp("models") / "gpt"
    tokenizer = Tokenizer.train(["the river moves under an old mountain " * 9], kind="bpe", vocab_size=280)
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    save_checkpoint(folder, Model(config, {"language_model": 0}), tokenizer=tokenizer)
    return folder


def test_one_prompt_or_several_give_a_list_of_whole_texts(model):
    [one] = generate(model, "the river", max_new_tokens=5)
    several = generate(model, ["an old mountain", "the river"], max_new_tokens=5)
    assert several[1] == one
    assert several[0].startswith("an old mountain")
    assert len(one) > len("the river")


def test_without_a_prompt_a_text_is_begun(model):
    assert len(generate(model, max_new_tokens=5)) == 1
    assert generate(model, [], max_new_tokens=5) == []


def test_the_seed_and_the_temperature_decide(model):
    greedy = [generate(model, "the river", temperature=0, seed=seed) for seed in (0, 1)]
    assert greedy[0] == greedy[1]
    drawn = [generate(model, "the river", temperature=2.0, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_no_special_token_is_written(model):
    names = ("<|endoftext|>", "[PAD]", "[SEP]", "[MASK]")
    assert all(name in Tokenizer.load(model).backend.get_vocab() for name in names)
    for text in generate(model, ["the", "river", "old"], temperature=50.0, top_p=1.0, max_new_tokens=40):
        assert not any(name in text for name in names)


@pytest.mark.parametrize("text", ["half a pair \ud83d", "\udcff"])
def test_a_prompt_that_is_no_unicode_is_refused(model, text):
    with pytest.raises(UserError, match="is not valid Unicode; give it as UTF-8"):
        generate(model, ["fine", text])


def test_a_model_that_reads_both_ways_does_not_write(model, tmp_path):
    config = TransformerConfig(vocab_size=280, hidden_size=16, num_hidden_layers=1, attention="bidirectional")
    save_checkpoint(tmp_path / "bert", Model(config, {"language_model": 0}), tokenizer=Tokenizer.load(model))
    with pytest.raises(UserError, match="GPT generates, BERT cannot"):
        generate(tmp_path / "bert", "the river")
