"""AutoModelForMaskedLM and AutoModelForCausalLM: filling blanks and writing."""

import numpy as np
import pytest
import torch
import transformers

from bothways.auto import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
from bothways.errors import UserError

LEARN = {"epochs": 30, "batch_size": 4, "learning_rate": 2e-3, "progress": False}
TEXTS = ["the film was lovely", "the plot was dull", "a story with music", "the actor was very moving"]


@pytest.fixture(scope="module")
def bert(folders):
    return AutoModelForMaskedLM.from_pretrained(folders["bert"]).fit(
        TEXTS * 4, **{**LEARN, "epochs": 100, "batch_size": 16}
    )


@pytest.fixture(scope="module")
def gpt(folders):
    return AutoModelForCausalLM.from_pretrained(folders["gpt2"]).fit(TEXTS, **{**LEARN, "epochs": 60})


def test_a_bert_learns_what_stands_in_blanks(bert, folders):
    assert bert.predict("the plot was [MASK]") == ["the plot was dull"]
    [[best, second]] = bert.predict_tokens(["a story [MASK] music"], top_k=2)[0]
    assert (best.token, best.sequence) == ("with", "a story with music")
    assert best.score > second.score > 0
    before = AutoModelForMaskedLM.from_pretrained(folders["bert"])
    assert bert.score(TEXTS) > before.score(TEXTS) + 1


def test_a_bert_is_saved_and_says_the_same_in_transformers(bert, tmp_path):
    bert.save_pretrained(tmp_path / "model")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "model")
    assert again.predict_tokens("the [MASK] was dull") == bert.predict_tokens("the [MASK] was dull")
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "model")
    tokens = again.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected, said = theirs(**tokens).logits, again(**tokens).logits
    real = tokens.attention_mask.bool()
    assert torch.allclose(said[real], expected[real], atol=1e-4)


def test_hidden_tokens_differ_from_epoch_to_epoch_and_not_from_run_to_run(folders):
    runs = [AutoModelForMaskedLM.from_pretrained(folders["bert"]).fit(TEXTS * 4, **LEARN) for _ in range(2)]
    assert all(map(torch.equal, runs[0].model.parameters(), runs[1].model.parameters()))
    losses = [record["loss"] for record in runs[0].trained.curve]
    assert len(set(losses)) == len(losses)


def test_a_gpt_learns_to_write(gpt, folders):
    assert gpt.predict(["the plot"]) == [" was dull"]
    assert gpt.generate("a story") == "a story with music"
    assert gpt.generate(["a story", "the actor"]) == ["a story with music", "the actor was very moving"]
    before = AutoModelForCausalLM.from_pretrained(folders["gpt2"])
    assert gpt.score(TEXTS) > before.score(TEXTS) + 1


def test_generate_takes_encodings_as_transformers_does(gpt, tmp_path):
    gpt.save_pretrained(tmp_path / "model")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokens = gpt.tokenizer("the actor", return_tensors="pt")
    expected = theirs.generate(**tokens, max_new_tokens=3, do_sample=False, pad_token_id=0)
    made = gpt.generate(**tokens, max_new_tokens=3)
    assert torch.equal(made, expected)
    assert torch.equal(gpt.generate(tokens, max_new_tokens=3), expected)
    several = gpt.generate(gpt.tokenizer(["the actor", "a"], padding=True, return_tensors="pt"), max_new_tokens=3)
    assert torch.equal(several[0, : expected.shape[1]], expected[0])


def test_a_seed_draws_the_same_and_another_one_does_not(gpt):
    drawn = [gpt.generate(["the"] * 8, do_sample=True, temperature=2.0, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_gpt_learns_to_answer_prompts_and_not_to_write_them(folders):
    model = AutoModelForCausalLM.from_pretrained(folders["gpt2"])
    model.fit([" dull", " lovely"], prompts=["the plot", "the film"], **{**LEARN, "epochs": 60})
    assert model.predict(["the plot", "the film"]) == [" dull", " lovely"]


def test_long_texts_are_learnt_whole(folders):
    long_text = " ".join(TEXTS * 30)
    gpt = AutoModelForCausalLM.from_pretrained(folders["gpt2"])
    tokens = len(gpt.tokenizer(long_text).input_ids)
    assert sum(len(row.targets["language_model"].index) for row in gpt._rows([long_text], None)) >= tokens
    bert = AutoModelForMaskedLM.from_pretrained(folders["bert"])
    parts = bert._parts([long_text])
    assert max(map(len, parts)) == bert.model.config.max_position_embeddings - 2
    assert np.concatenate(parts).tolist() == bert.tokenizer(long_text, add_special_tokens=False).input_ids
    assert gpt.score([long_text]) < 0
    assert bert.score([long_text]) < 0


def test_validation_chooses_the_best_epoch(folders):
    model = AutoModelForCausalLM.from_pretrained(folders["gpt2"])
    model.fit(TEXTS, validation=["the film was dull"], **{**LEARN, "epochs": 5})
    assert len(model.trained.evaluations) == 5
    bert = AutoModelForMaskedLM.from_pretrained(folders["bert"])
    bert.fit(TEXTS * 4, validation=0.25, **{**LEARN, "epochs": 3})
    assert len(bert.trained.evaluations) == 3


def test_mistakes_get_a_sentence(folders, bert, gpt):
    with pytest.raises(UserError, match=r"texts\[0\] has no blank to fill; write \[MASK\] where one is"):
        bert.predict("the plot")
    with pytest.raises(UserError, match=r"texts\[1\] must be a text, and is 3"):
        gpt.fit(["a", 3])
    with pytest.raises(UserError, match="there is not one text"):
        gpt.score([])
    with pytest.raises(UserError, match="mask_share must be between 0 and 1"):
        bert.fit(TEXTS, mask_share=1.5)
    with pytest.raises(UserError, match="there are 1 prompts and 4 texts"):
        gpt.fit(TEXTS, prompts=["a"])
    with pytest.raises(UserError, match="reads from left to right"):
        AutoModelForMaskedLM.from_pretrained(folders["gpt2"])
    with pytest.raises(UserError, match="reads both ways"):
        AutoModelForCausalLM.from_pretrained(folders["bert"])


def test_a_model_is_called_with_encodings(gpt, bert):
    tokenizer = AutoTokenizer(gpt.tokenizer.tokenizer, model_max_length=64)
    tokens = tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    whole = gpt(**tokens)
    assert whole.logits.shape == (*tokens.input_ids.shape, gpt.model.config.vocab_size)
    alone = gpt(**tokenizer(TEXTS[1], return_tensors="pt"))
    count = alone.logits.shape[1]
    assert torch.allclose(whole.logits[1, :count], alone.logits[0], atol=1e-5)
    for model in (gpt, bert):
        given = model.tokenizer(TEXTS[0], return_tensors="pt")
        left = torch.cat([torch.zeros(1, 3, dtype=torch.long), given.input_ids], dim=1)
        mask = torch.cat([torch.zeros(1, 3, dtype=torch.long), given.attention_mask], dim=1)
        padded, plain = model(left, mask), model(given.input_ids)
        assert torch.allclose(padded.last_hidden_state[:, 3:], plain.last_hidden_state, atol=1e-5)
    with pytest.raises(UserError, match="not with \\['labels'\\]"):
        gpt(**tokens, labels=torch.zeros(2))
    with pytest.raises(UserError, match=r"with at most 64 tokens, not \[1, 65\]"):
        gpt(torch.zeros(1, 65, dtype=torch.long))
