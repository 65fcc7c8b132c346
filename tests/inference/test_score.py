"""Likelihoods against the plain loop, against each other, and against the law that probabilities sum to one."""

import numpy as np
import pytest
import torch

from bothways.batch import collate, row
from bothways.errors import UserError
from bothways.inference import score
from bothways.inference.score import log_likelihoods, pseudo_log_likelihoods, score_continuations

MASK = 28
LENGTHS = (5, 1, 12, 3, 12, 2, 40)
BERT = {"attention": "bidirectional", "norm_position": "post", "norm": "layer", "head_transform": True}

every_budget = pytest.mark.parametrize("batch_tokens", [1, 30, 8192])


@torch.no_grad()
def log_probabilities(model, ids, position):
    """Return log p [V] of what the head says at one position of one text by itself."""
    model.eval()
    batch = collate([row(ids, model.config.attention)])
    return model.read("language_model", model(batch), batch, torch.tensor([position]))[0].log_softmax(0)


def pseudo_alone(model, ids):
    hidden = [[*ids[:position], MASK, *ids[position + 1 :]] for position in range(len(ids))]
    return [float(log_probabilities(model, text, at)[ids[at]]) for at, text in enumerate(hidden)]


@every_budget
@pytest.mark.parametrize("position", ["rotary", "learned"])
def test_each_token_is_scored_from_its_left(make_model, make_texts, position, batch_tokens):
    model, texts = make_model(position=position), make_texts(*LENGTHS)
    scores = log_likelihoods(model, texts, batch_tokens=batch_tokens)
    assert [len(part) for part in scores] == [len(text) - 1 for text in texts]
    for text, part in zip(texts, scores, strict=True):
        expected = [float(log_probabilities(model, text[:at], at - 1)[text[at]]) for at in range(1, len(text))]
        np.testing.assert_allclose(part, expected, atol=1e-10)


@every_budget
def test_a_continuation_is_scored_after_its_context(make_model, make_texts, batch_tokens):
    model, texts = make_model(), make_texts(6, 6, 2, 41)
    texts[1] = [*texts[0][:5], (texts[0][5] + 1) % 29]  # reads the same tokens as the first
    cuts = (5, 4, 1, 30)  # the second asks for more of what both read
    pairs = [(text[:cut], text[cut:]) for text, cut in zip(texts, cuts, strict=True)]
    scored = score_continuations(model, *zip(*pairs, strict=True), batch_tokens=batch_tokens)
    for text, cut, each in zip(texts, cuts, scored, strict=True):
        says = [log_probabilities(model, text[:at], at - 1) for at in range(cut, len(text))]
        np.testing.assert_allclose(each.log_likelihoods, [float(p[t]) for p, t in zip(says, text[cut:], strict=True)])
        assert each.greedy == all(int(p.argmax()) == t for p, t in zip(says, text[cut:], strict=True))


def test_what_would_be_written_is_greedy(make_model):
    model, text = make_model(), [3, 1]
    for _ in range(4):
        text.append(int(log_probabilities(model, text, len(text) - 1).argmax()))
    other = [*text[:-1], (text[-1] + 1) % 29]
    scored = score_continuations(model, [text[:2], text[:2], text[:5]], [text[2:], other[2:], other[5:]])
    assert [each.greedy for each in scored] == [True, False, False]


def test_what_reads_the_same_tokens_is_read_once(make_model, watch):
    model = make_model()
    shapes = watch(model)
    scored = score_continuations(model, [[1, 2, 3]] * 4 + [[1, 2]], [[4], [5], [6], [4], [3, 7]])
    assert shapes == [(1, 3)]
    assert scored[0].log_likelihoods == scored[3].log_likelihoods
    assert score_continuations(model, [], []) == []


@pytest.mark.parametrize(
    ("contexts", "continuations", "message"),
    [
        ([[]], [[1]], r"contexts\[0\] has no tokens"),
        ([[1]], [[]], r"continuations\[0\] has no tokens"),
        ([[1]], [[29]], r"continuations\[0\] holds token id 29"),
        ([[1] * 30], [[1] * 12], r"contexts with continuations\[0\] has 41 tokens"),
    ],
)
def test_continuations_that_cannot_be_scored_are_refused(make_model, contexts, continuations, message):
    with pytest.raises(UserError, match=message):
        score_continuations(make_model(), contexts, continuations)
    with pytest.raises(UserError, match="sees the token it should predict"):
        score_continuations(make_model(**BERT), contexts, continuations)


@every_budget
def test_each_token_is_scored_from_both_sides(make_model, make_texts, batch_tokens):
    model, texts = make_model(**BERT), make_texts(5, 1, 9, 3, 9, 2)
    scores = pseudo_log_likelihoods(model, texts, MASK, batch_tokens=batch_tokens)
    for text, part in zip(texts, scores, strict=True):
        np.testing.assert_allclose(part, pseudo_alone(model, text), atol=1e-10)


def test_the_frame_is_neither_hidden_nor_scored(make_model, make_texts):
    model, texts = make_model(**BERT), make_texts(6, 3, 2)
    whole = pseudo_log_likelihoods(model, texts, MASK)
    inner = pseudo_log_likelihoods(model, texts, MASK, frame=(2, 0))
    for one, other in zip(whole, inner, strict=True):
        np.testing.assert_allclose(one[2:], other, atol=1e-12)
    assert [len(part) for part in pseudo_log_likelihoods(model, texts, MASK, frame=(1, 1))] == [4, 1, 0]


def test_the_rest_of_a_word_is_hidden_with_a_token(make_model, make_texts):
    model, (text,) = make_model(**BERT), make_texts(7)
    # words: [cls], one token, three tokens, one token, [sep]
    goes_on = [False, False, False, True, True, False, False]
    hidden_with = {1: [1], 2: [2, 3, 4], 3: [3, 4], 4: [4], 5: [5]}
    expected = []
    for position, hidden in hidden_with.items():
        copy = [MASK if at in hidden else token for at, token in enumerate(text)]
        expected.append(float(log_probabilities(model, copy, position)[text[position]]))
    (found,) = pseudo_log_likelihoods(model, [text], MASK, frame=(1, 1), continues=[goes_on])
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_a_word_never_reaches_into_the_frame(make_model, make_texts):
    model, (text,) = make_model(**BERT), make_texts(5)
    words = [[False, False, True, True, end] for end in (False, True)]
    one, other = (pseudo_log_likelihoods(model, [text], MASK, frame=(1, 1), continues=[each])[0] for each in words)
    np.testing.assert_array_equal(one, other)


def test_words_of_one_token_change_nothing(make_model, make_texts):
    model, texts = make_model(**BERT), make_texts(5, 3)
    words = [[False] * len(text) for text in texts]
    plain, by_word = (pseudo_log_likelihoods(model, texts, MASK, continues=each) for each in (None, words))
    for one, other in zip(plain, by_word, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_shifted_model_is_read_at_the_position_before(make_model, make_texts):
    model, (text,) = make_model(**BERT), make_texts(5)
    model.shifted = True
    (found,) = pseudo_log_likelihoods(model, [text], MASK, frame=(1, 1))
    copies = {at: [*text[:at], MASK, *text[at + 1 :]] for at in (1, 2, 3)}
    expected = [float(log_probabilities(model, copy, at - 1)[text[at]]) for at, copy in copies.items()]
    np.testing.assert_allclose(found, expected, atol=1e-10)
    with pytest.raises(UserError, match="frame must begin with at least one token: this model says a hidden token at"):
        pseudo_log_likelihoods(model, [text], MASK)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_a_hybrid_is_scored_both_ways_whatever_its_settings_prefer(make_model, make_texts, attention):
    texts = make_texts(5, 9)
    hybrid = make_model(hybrid=True, attention=attention)
    for way, score_texts in (("causal", log_likelihoods), ("bidirectional", pseudo_log_likelihoods)):
        alone = make_model(attention=way)
        alone.load_state_dict(hybrid.state_dict())
        extra = [MASK] if way == "bidirectional" else []
        for one, other in zip(score_texts(hybrid, texts, *extra), score_texts(alone, texts, *extra), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_in_float32_a_score_does_not_depend_on_the_batch(make_model, make_texts, attention):
    model = make_model(dtype=torch.float32, attention=attention, initializer_range=0.2)
    texts = make_texts(*LENGTHS, 7, 8, 9, 10, 11)
    extra = [MASK] if attention == "bidirectional" else []
    function = log_likelihoods if attention == "causal" else pseudo_log_likelihoods
    together = function(model, texts, *extra)
    for text, found in zip(texts, together, strict=True):
        (alone,) = function(model, [text], *extra, batch_tokens=1)
        np.testing.assert_allclose(found.sum(), alone.sum(), atol=1e-5)


def test_probabilities_of_all_continuations_sum_to_one(make_model, make_texts):
    model, (text,) = make_model(), make_texts(4)
    last = [part[-1] for part in log_likelihoods(model, [[*text, token] for token in range(29)])]
    assert np.exp(last).sum() == pytest.approx(1, abs=1e-10)


def test_probabilities_of_all_fillings_sum_to_one(make_model, make_texts):
    model, (text,) = make_model(**BERT), make_texts(5)
    filled = [[*text[:2], token, *text[3:]] for token in range(29)]
    assert np.exp([part[2] for part in pseudo_log_likelihoods(model, filled, MASK)]).sum() == pytest.approx(
        1, abs=1e-10
    )


def test_the_caller_s_texts_stay_as_they_are(make_model):
    text = np.array([1, 2, 3])
    pseudo_log_likelihoods(make_model(**BERT), [text], MASK)
    assert text.tolist() == [1, 2, 3]


@pytest.mark.parametrize("pieces", [1, 3, 4])
def test_the_vocabulary_is_looked_at_in_pieces(make_model, make_texts, monkeypatch, pieces):
    model, texts = make_model(), make_texts(5, 8)
    whole = log_likelihoods(model, texts)
    monkeypatch.setattr(score, "_AT_ONCE", pieces)
    for one, other in zip(whole, log_likelihoods(model, texts), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_masked_copies_are_packed(make_model, make_texts, watch):
    model, texts = make_model(**BERT), make_texts(10, 3, 7)
    shapes = watch(model)
    pseudo_log_likelihoods(model, texts, MASK, batch_tokens=60)
    read, needed = sum(rows * length for rows, length in shapes), 10 * 10 + 3 * 3 + 7 * 7
    assert needed <= read <= 1.2 * needed
    assert max(rows * length for rows, length in shapes) <= 70


def test_one_token_and_no_texts(make_model):
    gpt, bert = make_model(), make_model(**BERT)
    assert [part.shape for part in log_likelihoods(gpt, [[3]])] == [(0,)]
    assert [part.shape for part in pseudo_log_likelihoods(bert, [[3]], MASK)] == [(1,)]
    assert log_likelihoods(gpt, []) == []
    assert pseudo_log_likelihoods(bert, [], MASK) == []


def test_bf16_says_nearly_the_same_in_float32(make_model, make_texts):
    texts = make_texts(*LENGTHS)
    model = make_model(dtype=torch.float32, initializer_range=0.1)
    whole = np.concatenate(log_likelihoods(model, texts))
    half = np.concatenate(log_likelihoods(model, texts, precision="bf16"))
    assert whole.dtype == half.dtype == np.float32
    assert 0 < np.abs(whole - half).max() < 0.05


def test_the_model_is_left_as_it_was_found(make_model, make_texts):
    model, texts = make_model(hidden_dropout=0.5).train(), make_texts(6)
    np.testing.assert_array_equal(log_likelihoods(model, texts)[0], log_likelihoods(model, texts)[0])
    assert all(module.training for module in model.modules())


def test_each_kind_of_model_has_its_own_score(make_model, make_texts):
    with pytest.raises(UserError, match="pseudo-log-likelihoods"):
        log_likelihoods(make_model(**BERT), make_texts(3))
    with pytest.raises(UserError, match="causal model cannot see"):
        pseudo_log_likelihoods(make_model(), make_texts(3), MASK)


def test_what_cannot_be_scored_is_refused(make_model):
    model, bert = make_model(), make_model(**BERT)
    for text, message in (([], "no tokens"), ([1] * 41, "at most 40"), ([29], "token id 29")):
        with pytest.raises(UserError, match=message):
            log_likelihoods(model, [text])
        with pytest.raises(UserError, match=message):
            pseudo_log_likelihoods(bert, [text], MASK)
    with pytest.raises(UserError, match=r"sequences\[1\] has 2 tokens, fewer than its frame of 3"):
        pseudo_log_likelihoods(bert, [[1, 2, 3], [1, 2]], MASK, frame=(2, 1))
    with pytest.raises(UserError, match=r"mask_id\[0\] holds token id 31"):
        pseudo_log_likelihoods(bert, [[1]], 31)
    with pytest.raises(UserError, match="unknown head of this model: 'language_model'"):
        log_likelihoods(make_model({"classification": 2}), [[1]])
