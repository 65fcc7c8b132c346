from collections import Counter

import numpy as np
import pytest
import torch

from bothways.batch import collate, join
from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.hybrid import Hybrid, sees_ahead
from bothways.objectives.masked_lm import MaskedLM

BOS, SEP, MASK = 1, 2, 3


def hybrid(*, vocab_size=10**6, mask_share=0.2, final_mask_share=None, shifted=False, **settings):
    masked = MaskedLM(
        cls_id=BOS,
        sep_id=SEP,
        mask_id=MASK,
        vocab_size=vocab_size,
        special_ids=(0, BOS, SEP, MASK),
        pairs="none",
        mask_share=mask_share,
        final_mask_share=final_mask_share,
        shifted=shifted,
    )
    return Hybrid(causal=CausalLM(bos_id=BOS, eos_id=BOS), masked=masked, **{"length": 16, **settings})


@pytest.fixture
def corpus(make_numbered):
    return make_numbered([[int(size)] for size in np.random.default_rng(0).integers(1, 60, size=400)])


def rows_of(objective, corpus, *, length=16, seed=0, done=1.0):
    rng = np.random.default_rng(seed)
    return list(objective.prepare(corpus, np.arange(len(corpus)), length, rng, done))


def kinds(objective, corpus, **settings):
    """Return how many sequences of each kind there are, told by what their tokens see."""
    found = Counter()
    for row in rows_of(objective, corpus, **settings):
        for number in range(row.sequence_ids.max() + 1):
            inside = np.flatnonzero(row.sequence_ids == number)
            seen = row.reach[inside] - inside[0]
            own = inside - inside[0]
            if np.array_equal(seen, own):
                found["causal"] += 1
            elif seen.min() == own[-1]:
                found["masked"] += 1
            else:
                found["prefix"] += 1
    return found


def test_the_shares_are_of_sequences(corpus):
    found = kinds(hybrid(masked_share=0.5, prefix_share=0.2), corpus)
    total = sum(found.values())
    assert total > 800
    assert found["masked"] / total == pytest.approx(0.5, abs=0.06)
    # a prefix of one token is a causal sequence, and the shortest texts have no longer one
    assert 0.1 < found["prefix"] / total < 0.2


@pytest.mark.parametrize(("masked", "prefix", "kind"), [(0.0, 0.0, "causal"), (1.0, 0.0, "masked")])
def test_a_share_of_nothing_is_nothing(corpus, masked, prefix, kind):
    assert set(kinds(hybrid(masked_share=masked, prefix_share=prefix, length=40), corpus, length=40)) == {kind}


def test_every_token_is_in_one_sequence_of_an_epoch(corpus):
    tokens = [token for index in range(len(corpus)) for token in corpus.document(index).tolist()]
    found = []
    for row in rows_of(hybrid(), corpus):
        target = row.targets["language_model"]
        ahead = row.reach[target.index] > target.index
        ids = row.input_ids.copy()
        ids[target.index[ahead]] = target.value[ahead]
        last = np.append(row.sequence_ids[1:] != row.sequence_ids[:-1], True)[target.index]
        found += [*ids, *target.value[last & ~ahead]]  # a causal part's last token is predicted, and not read
    assert sorted(token for token in found if token >= 10) == tokens


def test_a_causal_part_predicts_all_its_tokens_and_the_last_one_the_end():
    objective = hybrid()
    row = objective.continuation(np.array([10, 11, 12]), last=True)
    assert row.input_ids.tolist() == [BOS, 10, 11, 12]
    assert row.targets["language_model"].value.tolist() == [10, 11, 12, BOS]
    assert row.targets["language_model"].index.tolist() == [0, 1, 2, 3]
    row = objective.continuation(np.array([10, 11, 12]), last=False)
    assert row.input_ids.tolist() == [BOS, 10, 11]
    assert row.targets["language_model"].value.tolist() == [10, 11, 12]


def test_what_follows_a_prefix_is_predicted_and_nothing_of_it():
    row = hybrid().continuation(np.array([10, 11, 12, 13]), prefix=3)
    assert row.input_ids.tolist() == [BOS, 10, 11, 12, 13]
    assert row.reach.tolist() == [2, 2, 2, 3, 4]
    assert row.targets["language_model"].index.tolist() == [2, 3, 4]
    assert row.targets["language_model"].value.tolist() == [12, 13, BOS]


@pytest.mark.parametrize("shifted", [False, True])
def test_targets_are_told_apart_by_what_their_positions_see(shifted):
    objective = hybrid(shifted=shifted)
    draw = np.random.default_rng(0)
    text = np.arange(10, 30)
    rows = [
        objective.masked.sequence(text, text[:0], True, draw),
        objective.continuation(text, prefix=7),
        objective.continuation(text, last=False),
        objective.continuation(text, prefix=20),
    ]
    expected = [number == 0 for number, row in enumerate(rows) for _ in row.targets["language_model"].index]
    assert sees_ahead(collate(rows)).tolist() == expected
    assert sees_ahead(collate([join(rows), rows[0]])).tolist() == expected + [True] * expected.count(True)


def test_the_share_of_masks_falls_while_training_goes_on(corpus):
    objective = hybrid(mask_share=0.4, final_mask_share=0.1, masked_share=1.0, prefix_share=0.0, length=40)

    def share(done):
        rows = rows_of(objective, corpus, length=40, done=done)
        hidden = sum(len(row.targets["language_model"].index) for row in rows)
        return hidden / sum(map(len, rows))

    assert share(0.0) == pytest.approx(0.4, abs=0.03)
    assert share(0.5) == pytest.approx(0.25, abs=0.03)
    assert share(1.0) == pytest.approx(0.1, abs=0.03)


def test_each_kind_has_its_own_mean_weighed_by_its_share(make_model, make_numbered):
    corpus = make_numbered([[4, 5], [9], [3, 3, 3]])
    objective = hybrid(vocab_size=40, masked_share=0.3, prefix_share=0.1)
    model = make_model(objective.heads)
    batch = collate(rows_of(objective, corpus, seed=3))
    ahead = sees_ahead(batch)
    assert 0 < int(ahead.sum()) < len(ahead)
    with torch.no_grad():
        losses = objective.loss(model, batch)
        logits = model.read("language_model", model(batch), batch)
    surprise = -logits.log_softmax(-1)[range(len(ahead)), batch.targets["language_model"].value]
    assert float(losses["masked_lm"].sum) == pytest.approx(float(surprise[ahead].sum()), rel=1e-12)
    assert float(losses["causal_lm"].sum) == pytest.approx(float(surprise[~ahead].sum()), rel=1e-12)
    assert (losses["causal_lm"].weight, losses["masked_lm"].weight) == (0.7, 0.3)
    assert {name: loss.count for name, loss in losses.items()} == objective.counts(batch)


def test_a_batch_of_one_kind_has_no_loss_of_the_other(make_model):
    objective = hybrid(vocab_size=40)
    batch = collate([objective.continuation(np.array([10, 11, 12]))])
    with torch.no_grad():
        losses = objective.loss(make_model(objective.heads), batch)
    assert (losses["masked_lm"].count, float(losses["masked_lm"].sum)) == (0, 0.0)
    assert losses["causal_lm"].count == 4
