"""Model objects of transformers, of architectures that we have no file for, behind the same methods."""

import pytest
import torch
import transformers

from bothways.auto import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from bothways.errors import UserError
from bothways.inference.score import log_likelihoods

LEARN = {"epochs": 4, "batch_size": 8, "learning_rate": 2e-3, "progress": False}
TEXTS = ["the film was lovely and moving", "a dull plot", "the music of the story was very bad"]


@pytest.fixture(scope="module")
def wordpiece(folders):
    return AutoTokenizer.from_pretrained(folders["bert"])


@pytest.fixture(scope="module")
def bpe(folders):
    return AutoTokenizer.from_pretrained(folders["gpt2"])


def deberta(tokenizer, **options):
    return transformers.DebertaV2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
        type_vocab_size=0,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        pooler_hidden_size=64,
        **options,
    )


def mamba(tokenizer):
    return transformers.MambaConfig(vocab_size=len(tokenizer), hidden_size=64, state_size=8, num_hidden_layers=2)


def gemma(tokenizer):
    return transformers.Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        intermediate_size=128,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
    )


DECODERS = {"mamba": (mamba, transformers.MambaForCausalLM), "gemma2": (gemma, transformers.Gemma2ForCausalLM)}


@pytest.fixture(params=DECODERS)
def decoder(request, bpe):
    make, kind = DECODERS[request.param]
    torch.manual_seed(0)
    return kind(make(bpe)).eval()


def test_a_classifier_with_its_own_head_learns_and_is_saved_by_transformers(wordpiece, reviews, unseen, tmp_path):
    torch.manual_seed(0)
    theirs = transformers.DebertaV2ForSequenceClassification(deberta(wordpiece, num_labels=2))
    model = AutoModelForSequenceClassification.from_transformers(theirs, wordpiece)
    names = ["bad", "good"]
    model.fit(reviews[0], [names[label] for label in reviews[1]], **LEARN)
    assert model.score(unseen[0], [names[label] for label in unseen[1]]) > 0.9
    model.save_pretrained(tmp_path / "model")
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert again.config.id2label == {0: "bad", 1: "good"}
    tokens = wordpiece(unseen[0][:5], padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = again(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).logits.softmax(-1)
    assert model.predict_proba(unseen[0][:5]) == pytest.approx(expected.numpy(), abs=1e-4)


def test_an_encoder_without_a_head_gets_one_of_ours(wordpiece, reviews, unseen, tmp_path):
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_transformers(
        transformers.DebertaV2Model(deberta(wordpiece)), wordpiece
    )
    with pytest.raises(UserError, match="call fit first"):
        model.predict(TEXTS)
    assert model.fit(*reviews, **LEARN).score(*unseen) > 0.9
    with pytest.raises(UserError, match="is not DebertaV2Model's own, and its files have no place for it"):
        model.save_pretrained(tmp_path / "model")


def test_a_head_with_other_labels_is_replaced(wordpiece, reviews, unseen):
    torch.manual_seed(0)
    theirs = transformers.DebertaV2ForSequenceClassification(deberta(wordpiece, num_labels=5))
    model = AutoModelForSequenceClassification.from_transformers(theirs, wordpiece)
    assert model.fit(*reviews, **LEARN).score(*unseen) > 0.9
    assert model.predict_proba(unseen[0][:1]).shape == (1, 2)


def test_tokens_answers_blanks_and_vectors(wordpiece):
    torch.manual_seed(0)
    config = deberta(wordpiece, num_labels=3)
    tokens = wordpiece(TEXTS, padding=True, return_tensors="pt")
    given = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
    real = tokens.attention_mask.bool()
    for ours, kind in (
        (AutoModelForTokenClassification, transformers.DebertaV2ForTokenClassification),
        (AutoModelForMaskedLM, transformers.DebertaV2ForMaskedLM),
    ):
        theirs = kind(config).eval()
        model = ours.from_transformers(theirs, wordpiece)
        with torch.inference_mode():
            assert torch.allclose(model(**given).logits[real], theirs(**given).logits[real], atol=1e-5)
    theirs = transformers.DebertaV2ForQuestionAnswering(deberta(wordpiece, num_labels=2)).eval()
    model = AutoModelForQuestionAnswering.from_transformers(theirs, wordpiece)
    with torch.inference_mode():
        said, expected = model(**given).logits, theirs(**given)
    assert torch.allclose(said[..., 0][real], expected.start_logits[real], atol=1e-5)
    assert torch.allclose(said[..., 1][real], expected.end_logits[real], atol=1e-5)
    encoder = AutoModel.from_transformers(theirs, wordpiece)
    alone = [encoder.encode([text])[0] for text in TEXTS]
    assert encoder.encode(TEXTS) == pytest.approx(torch.tensor(alone).numpy(), abs=1e-5)


def test_a_decoder_writes_what_it_writes_in_transformers(decoder, bpe):
    model = AutoModelForCausalLM.from_transformers(decoder, bpe)
    assert model.model.config.attention == "causal"
    tokens = bpe("the film", return_tensors="pt")
    ids = tokens.input_ids[0].tolist()
    for _ in range(8):  # the plain way, without any cache
        with torch.inference_mode():
            logits = decoder(input_ids=torch.tensor([ids])).logits[0, -1].clone()
            logits[0] = -torch.inf  # the token that begins and ends texts
        ids.append(int(logits.argmax()))
    several = bpe(["the film", "a story with music and"], padding=True, return_tensors="pt")
    model.model.eval()
    made = model.generate(several, max_new_tokens=8)
    assert made[0, : len(ids)].tolist() == ids or 0 in made[0].tolist()
    [alone] = model.generate(tokens, max_new_tokens=8).tolist()
    assert made[0, : len(alone)].tolist() == alone


def test_a_decoder_finds_texts_as_likely_as_in_transformers_and_learns(decoder, bpe):
    model = AutoModelForCausalLM.from_transformers(decoder, bpe)
    ids = [bpe(text).input_ids for text in TEXTS]
    for given, values in zip(ids, log_likelihoods(model.model, ids), strict=True):
        with torch.inference_mode():
            expected = decoder(input_ids=torch.tensor([given])).logits[0].log_softmax(-1)
        right = expected[:-1].gather(1, torch.tensor(given[1:])[:, None]).squeeze(1)
        assert values == pytest.approx(right.numpy(), abs=1e-4)
    before = model.score(TEXTS)
    assert model.fit(TEXTS, **{**LEARN, "epochs": 20}).score(TEXTS) > before + 0.5


def test_packing_changes_nothing(wordpiece, reviews):
    theirs = transformers.ElectraForSequenceClassification(
        transformers.ElectraConfig(
            vocab_size=len(wordpiece),
            embedding_size=32,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=128,
            max_position_embeddings=64,
        )
    ).eval()
    model = AutoModelForSequenceClassification.from_transformers(theirs, wordpiece, labels=["bad", "good"])
    together = model.predict_proba(reviews[0])
    for number in (0, 7, 100):
        assert model.predict_proba([reviews[0][number]])[0] == pytest.approx(together[number], abs=1e-5)


def test_the_fast_tokenizer_of_transformers_is_taken_over(wordpiece, folders):
    theirs = transformers.AutoTokenizer.from_pretrained(folders["bert"])
    taken = AutoTokenizer.from_transformers(theirs)
    assert taken(TEXTS, padding=True).input_ids == theirs(TEXTS, padding=True)["input_ids"]
    assert AutoTokenizer.from_transformers(wordpiece) is wordpiece
    theirs.eos_token = "dull"
    assert (
        AutoTokenizer.from_transformers(theirs).eos_token_id == theirs.eos_token_id == taken.tokenizer.encode("dull")[0]
    )


def test_what_cannot_be_taken_over_gets_a_sentence(wordpiece):
    with pytest.raises(UserError, match="only a model object of transformers can be taken over, not Linear"):
        AutoModel.from_transformers(torch.nn.Linear(1, 1))
    with pytest.raises(UserError, match="has no language model head"):
        AutoModelForMaskedLM.from_transformers(transformers.DebertaV2Model(deberta(wordpiece)))
    with pytest.raises(UserError, match="MambaForCausalLM reads from left to right, as a GPT"):
        AutoModelForMaskedLM.from_transformers(transformers.MambaForCausalLM(mamba(wordpiece)))
    small = transformers.T5Config(vocab_size=20, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    with pytest.raises(UserError, match="with an encoder and a decoder cannot be taken over"):
        AutoModel.from_transformers(transformers.T5ForConditionalGeneration(small))
    with pytest.raises(UserError, match="only a fast tokenizer of transformers can be taken over, not int"):
        AutoTokenizer.from_transformers(3)
