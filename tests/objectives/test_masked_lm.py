import math
import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from bothways.batch import collate
from bothways.errors import UserError
from bothways.objectives.masked_lm import MaskedLM
from bothways.text.shards import EncodedDocument, gather

CLS, SEP, MASK, PAD = 1, 2, 3, 0


def objective(**settings):
    given = {"cls_id": CLS, "sep_id": SEP, "mask_id": MASK, "vocab_size": 40, "special_ids": (PAD, CLS, SEP, MASK)}
    return MaskedLM(**{**given, **settings})


def rng(seed=0):
    return np.random.default_rng(seed)


def everything(corpus):
    return np.arange(len(corpus))


def original(row):
    """Return the ids of a row as they were before any was hidden."""
    ids = row.input_ids.copy()
    ids[row.targets["language_model"].index] = row.targets["language_model"].value
    return ids


def close(share, expected, count, *, sigmas=4.5):
    """Whether a share of ``count`` draws is as near to its expectation as chance allows."""
    return abs(share - expected) <= sigmas * math.sqrt(expected * (1 - expected) / count)


# What a sequence looks like.


def test_a_pair_stands_in_its_frame_with_its_segments():
    row = objective().sequence(np.array([10, 11, 12]), np.array([20, 21]), False, rng())
    assert original(row).tolist() == [CLS, 10, 11, 12, SEP, 20, 21, SEP]
    assert row.token_type_ids.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert row.reach.tolist() == [7] * 8
    assert row.sequence_ids.tolist() == [0] * 8
    target = row.targets["next_sentence"]
    assert (target.index.tolist(), target.value.tolist()) == ([0], [1])


def test_a_text_alone_has_one_end_and_no_pair():
    row = objective(pairs="none").sequence(np.array([10, 11]), np.zeros(0, dtype=np.int64), True, rng())
    assert original(row).tolist() == [CLS, 10, 11, SEP]
    assert row.token_type_ids.tolist() == [0] * 4
    assert list(row.targets) == ["language_model"]


@pytest.mark.parametrize(
    ("pairs", "heads"),
    [("none", {}), ("next_sentence", {"next_sentence": 2}), ("sentence_order", {"next_sentence": 2})],
)
def test_it_reads_the_heads_that_its_pairs_need(pairs, heads):
    assert objective(pairs=pairs).heads == {"language_model": 0, **heads}


# What is chosen and how it is hidden.


def chosen_rows(count, size=97, **settings):
    """Return ``count`` sequences of ``size`` + 3 tokens, drawn one after the other, and their objective."""
    made = objective(**settings)
    draw = rng(5)
    rows = []
    for _ in range(count):
        tokens = draw.integers(4, 40, size=size)
        rows.append(made.sequence(tokens[: size // 2], tokens[size // 2 :], True, draw))
    return rows


@pytest.mark.parametrize(
    ("share", "size", "expected"),
    [(0.15, 97, 15), (0.3, 97, 30), (0.15, 20, 3), (0.15, 2, 1), (0.0, 97, 1), (1.0, 17, 17)],
)
def test_exactly_the_share_is_chosen_and_at_least_one(share, size, expected):
    for row in chosen_rows(20, size=size, mask_share=share):
        index = row.targets["language_model"].index
        assert len(index) == len(set(index.tolist())) == expected
        assert index.tolist() == sorted(index.tolist())


def test_of_the_chosen_eight_tenths_are_masked_one_is_random_and_one_stays():
    draws, same = Counter(), 0
    rows = chosen_rows(1500)
    for row in rows:
        target = row.targets["language_model"]
        for now, before in zip(row.input_ids[target.index].tolist(), target.value.tolist(), strict=True):
            draws[now] += now != before
            same += now == before
    count = 15 * len(rows)
    masked = draws.pop(MASK)
    # A random token is [MASK], or the very one that was there, once in 40 times.
    assert close(masked / count, 0.8 + 0.1 / 40, count)
    assert close(same / count, 0.1 + 0.1 / 40, count)
    changed = sum(draws.values())
    assert close(changed / count, 0.1 * 38 / 40, count)
    assert set(draws) == set(range(40)) - {MASK}
    ordinary = [draws[token] for token in range(4, 40)]
    expected = sum(ordinary) / 36
    chi_square = sum((found - expected) ** 2 / expected for found in ordinary)
    assert chi_square < 35 + 4.5 * math.sqrt(2 * 35)  # mean and spread of 35 degrees of freedom


def test_nothing_but_the_chosen_is_touched():
    made = objective()
    tokens = np.arange(10, 37)
    for seed in range(50):
        row = made.sequence(tokens[:9], tokens[9:], True, rng(seed))
        assert original(row).tolist() == [CLS, *range(10, 19), SEP, *range(19, 37), SEP]


def test_every_place_is_chosen_equally_often_and_the_frame_never():
    times = np.zeros(100)
    rows = chosen_rows(1500)
    for row in rows:
        times[row.targets["language_model"].index] += 1
    frame = [0, 49, 99]
    assert times[frame].tolist() == [0, 0, 0]
    inside = np.delete(times, frame) / len(rows)
    assert all(close(share, 15 / 97, len(rows)) for share in inside)


def test_special_tokens_inside_a_text_are_never_chosen():
    made = objective(mask_share=1.0)
    row = made.sequence(np.array([10, PAD, 11, MASK]), np.array([SEP, 12]), True, rng())
    assert row.targets["language_model"].value.tolist() == [10, 11, 12]
    empty = made.sequence(np.array([PAD]), np.array([MASK]), True, rng())
    assert len(empty.targets["language_model"].index) == 0


def test_masks_are_drawn_anew_from_the_same_text():
    tokens = np.arange(10, 40)
    draw = rng()
    rows = [objective().sequence(tokens[:9], tokens[9:], True, draw) for _ in range(20)]
    assert len({tuple(row.targets["language_model"].index) for row in rows}) > 15


# Whole words: tokens from 1000 on go on with the word before them.

WORDS = np.arange(3000) >= 1000


def words_of(ids):
    """Return the words of a row as lists of positions, by a plain loop."""
    words = []
    for position, token in enumerate(ids.tolist()):
        if token in (PAD, CLS, SEP, MASK):
            continue
        if token >= 1000 and words:
            words[-1].append(position)
        else:
            words.append([position])
    return words


def word_tokens(draw, size):
    """Return tokens in words of one to four pieces, cut to ``size``."""
    pieces = []
    while len(pieces) < size:
        pieces += [int(draw.integers(4, 1000)), *draw.integers(1000, 3000, size=int(draw.integers(4))).tolist()]
    return np.array(pieces[:size])


def test_the_pieces_of_a_word_are_chosen_together_or_not_at_all():
    made = objective(vocab_size=3000, continues_word=WORDS)
    draw = rng()
    for _ in range(300):
        row = made.sequence(word_tokens(draw, 40), word_tokens(draw, 57), True, draw)
        chosen = set(row.targets["language_model"].index.tolist())
        assert 12 <= len(chosen) <= 15  # a word of four may not fit the last three
        for word in words_of(original(row)):
            assert chosen >= set(word) or not chosen & set(word)


def test_what_is_left_of_a_word_that_was_cut_is_a_word():
    made = objective(vocab_size=3000, continues_word=WORDS, mask_share=0.4)
    chosen = Counter()
    for seed in range(60):
        row = made.sequence(np.array([2000, 2001, 10]), np.array([11, 2002]), True, rng(seed))
        chosen[tuple(row.targets["language_model"].index.tolist())] += 1
    # The words are (1, 2), (3) and (5, 6), and there is room for three tokens.
    assert set(chosen) == {(1, 2, 3), (3, 5, 6)}


def test_where_no_word_fits_one_piece_is_chosen_all_the_same():
    made = objective(vocab_size=3000, continues_word=WORDS)
    row = made.sequence(np.array([10, 2000, 2001]), np.array([11, 2002]), True, rng())
    assert len(row.targets["language_model"].index) == 1
    bare = made.sequence(np.array([PAD]), np.array([MASK]), True, rng())
    assert len(bare.targets["language_model"].index) == 0


# Whole words, where the corpus knows them.

ALONE = np.zeros(10**5, dtype=bool)  # a table after which each token is a word: what the corpus knows must win


def test_the_words_given_go_before_the_table():
    made = objective(vocab_size=3000, continues_word=WORDS, mask_share=0.4)
    begins = np.array([False, True, False]), np.array([False, False])
    chosen = Counter()
    for seed in range(60):
        row = made.sequence(np.array([10, 2001, 12]), np.array([11, 13]), True, rng(seed), words=begins)
        chosen[tuple(row.targets["language_model"].index.tolist())] += 1
    # The words are (1), (2, 3) and (5, 6), since what begins a side begins a word; there is room for three tokens.
    assert set(chosen) == {(1, 2, 3), (1, 5, 6)}


def test_the_table_serves_the_side_whose_words_are_not_known():
    made = objective(vocab_size=3000, continues_word=WORDS, mask_share=0.4)
    chosen = Counter()
    for seed in range(60):
        known = np.array([True, True, False])
        row = made.sequence(np.array([10, 2001, 12]), np.array([11, 2002]), True, rng(seed), words=(known, None))
        chosen[tuple(row.targets["language_model"].index.tolist())] += 1
    assert set(chosen) == {(1, 2, 3), (1, 5, 6)}


@pytest.fixture
def with_words(make_numbered):
    """Return a corpus of numbered tokens that knows words of one to four tokens, the same without, and the words."""
    corpus = make_numbered(make_lengths(8, 120, longest=30))
    begins = rng(4).random(10 + corpus.num_tokens) < 0.4
    documents = [
        EncodedDocument(
            input_ids=corpus.document(index),
            sentence_starts=np.cumsum([0, *map(len, corpus.document_sentences(index)[:-1])]),
            num_bytes=1,
            word_starts=begins[corpus.document(index)],
        )
        for index in everything(corpus)
    ]
    return gather(documents), corpus, begins


@pytest.mark.parametrize("pairs", ["next_sentence", "sentence_order", "none"])
def test_words_keep_their_places_however_texts_are_drawn_and_cut(with_words, pairs):
    corpus, _, begins = with_words
    made = objective(vocab_size=10**5, continues_word=ALONE, pairs=pairs, length=48, mask_share=0.3)
    whole = 0
    for row in made.prepare(corpus, everything(corpus), 48, rng(1)):
        ids, chosen = original(row).tolist(), set(row.targets["language_model"].index.tolist())
        words = []
        for place, token in enumerate(ids):
            if token >= 10:
                if begins[token] or ids[place - 1] in (CLS, SEP):
                    words.append(set())
                words[-1].add(place)
        if any(len(word) > 12 for word in words):
            continue  # where no word fits one piece is chosen all the same
        assert all(chosen >= word or not chosen & word for word in words)
        whole += sum(len(word) > 1 and chosen >= word for word in words)
    assert whole > 100


def test_where_tokens_are_masked_alone_words_do_not_matter(with_words):
    knowing, plain, _ = with_words
    made = objective(vocab_size=10**5, length=48)
    rows = [
        [(row.input_ids.tolist(), row.targets["language_model"].index.tolist()) for row in found]
        for found in (made.prepare(corpus, everything(corpus), 64, rng(2)) for corpus in (knowing, plain))
    ]
    assert rows[0] == rows[1]


# Pairs, on a corpus whose every token tells where it comes from.


def make_lengths(seed, documents, *, longest=20, sentences=12):
    draw = rng(seed)
    return [draw.integers(1, longest, size=int(draw.integers(1, sentences))).tolist() for _ in range(documents)]


def places(lengths):
    """Return each token's document and sentence, for a numbered corpus of these lengths."""
    found, token = {}, 10
    for document, sizes in enumerate(lengths):
        for sentence, size in enumerate(sizes):
            for _ in range(size):
                found[token] = (document, sentence)
                token += 1
    return found


def pairs_of(made, corpus, seed=0):
    """Yield the pairs that training reads, in random order: both texts, and whether the second belongs there."""
    for row in made.prepare(corpus, everything(corpus), made.length, rng(seed)):
        ids, labels = original(row), row.targets["next_sentence"].value.tolist()
        for number, label in enumerate(labels):
            sequence = ids[row.sequence_ids == number]
            middle, last = np.flatnonzero(sequence == SEP)
            yield sequence[1:middle], sequence[middle + 1 : last], label == 0


def runs_on(side):
    return side.tolist() == list(range(side[0], side[0] + len(side)))


@pytest.fixture(params=[16, 64, 128])
def length(request):
    return request.param


def test_the_labels_of_next_sentences_are_true(make_numbered, length):
    lengths = make_lengths(0, 150)
    corpus, place = make_numbered(lengths), places(lengths)
    followed = 0
    for first, second, belongs in pairs_of(objective(length=length), corpus):
        assert runs_on(first)
        assert runs_on(second)
        documents = {place[int(token)][0] for token in first}, {place[int(token)][0] for token in second}
        if not belongs:
            assert documents[0].isdisjoint(documents[1])
            continue
        assert documents[0] == documents[1]
        untrimmed = len(first) + len(second) < length - 3
        if untrimmed:
            assert second[0] == first[-1] + 1
        else:
            assert second[0] > first[-1]
        followed += untrimmed
    assert followed > 5 or length == 16


def test_more_than_half_of_the_second_texts_do_not_follow(make_numbered):
    lengths = [[5] * 40] * 200
    corpus = make_numbered(lengths)
    pairs = list(pairs_of(objective(length=64), corpus))
    share = sum(not belongs for _, _, belongs in pairs) / len(pairs)
    # A chunk of one sentence (the rest of a document) has nothing that could follow; of the others half are replaced.
    assert 0.5 < share < 0.65


def test_one_document_alone_never_gives_a_text_that_follows_as_one_that_does_not(make_numbered):
    lengths = [[4] * 30]
    corpus = make_numbered(lengths)
    for seed in range(30):
        for first, second, belongs in pairs_of(objective(length=32, short_share=0), corpus, seed):
            assert runs_on(first)
            assert runs_on(second)
            assert belongs == (first[-1] < second[0] <= first[-1] + 4) or len(first) + len(second) == 29


def test_every_sentence_is_the_first_text_or_follows_it_once(make_numbered):
    lengths = [[1] * 37, [1] * 5, [1] * 80]  # single tokens, so that nothing is ever cut off
    corpus = make_numbered(lengths)
    pairs = pairs_of(objective(length=16), corpus)
    seen = Counter(int(token) for first, second, belongs in pairs for token in (*first, *(second if belongs else ())))
    assert seen == Counter(range(10, 10 + 122))


def test_sequences_and_rows_never_exceed_their_length(make_numbered, length):
    corpus = make_numbered(make_lengths(1, 80, longest=60))
    made = objective(length=length, vocab_size=10**6)
    for first, second, _ in pairs_of(made, corpus):
        assert len(first) >= 1
        assert len(second) >= 1
        assert len(first) + len(second) <= length - 3
    for row in made.prepare(corpus, everything(corpus), 150, rng()):
        assert len(row) <= 150
        assert np.bincount(row.sequence_ids).max() <= length
        starts = np.flatnonzero(row.input_ids == CLS)
        assert row.targets["next_sentence"].index.tolist() == starts.tolist()
        assert row.position_ids[starts].tolist() == [0] * len(starts)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_the_short_share_is_built_to_a_random_length(make_numbered, share):
    corpus = make_numbered([[1] * 600] * 100)
    ends = {int(corpus.document(index)[-1]) for index in everything(corpus)}  # there a chunk may end before its target
    pairs = pairs_of(objective(length=35, short_share=share), corpus)
    sizes = [len(first) + len(second) for first, second, belongs in pairs if belongs and int(second[-1]) not in ends]
    short = [size for size in sizes if size < 32]
    assert close(len(short) / len(sizes), share * 30 / 31, len(sizes))
    if short:
        assert set(short) == set(range(2, 32))  # 32 would be the whole length
        assert abs(np.mean(short) - 16.5) < 4.5 * np.std(short) / math.sqrt(len(short))


@pytest.mark.parametrize("pairs", ["next_sentence", "sentence_order", "none"])
def test_the_seed_decides_everything(make_numbered, pairs):
    corpus = make_numbered(make_lengths(2, 40))
    made = objective(pairs=pairs, vocab_size=10**6)

    def ids(seed):
        return [row.input_ids.tolist() for row in made.prepare(corpus, everything(corpus), 200, rng(seed))]

    assert ids(7) == ids(7)
    assert ids(7) != ids(8)


def test_rows_come_in_random_order(make_numbered):
    corpus = make_numbered(make_lengths(3, 200))
    drafts = objective(length=64, vocab_size=10**6).lay_out(corpus, everything(corpus), 128, rng())
    longest = [max(map(len, draft)) for draft in drafts]
    rises = [after > before for before, after in pairwise(longest)]  # packing begins with the longest: none would rise
    assert 0.3 < np.mean(rises) < 0.7


def test_what_is_too_long_is_cut_from_the_longer_side_at_either_end(make_numbered):
    corpus = make_numbered([[50, 80]] * 150)
    made = objective(length=63, pairs="sentence_order", short_share=0.0)
    fronts = []
    for first, second, belongs in pairs_of(made, corpus):
        before, after = (first, second) if belongs else (second, first)
        number = (before[0] - 10) // 130
        assert (len(before), len(after)) == (30, 30)
        fronts += [before[0] - (10 + 130 * number), after[0] - (60 + 130 * number)]
    for cut, found in ((20, fronts[0::2]), (50, fronts[1::2])):  # each cut token falls to one end or the other
        assert abs(np.mean(found) - cut / 2) < 4.5 * math.sqrt(cut / 4 / 150)
        assert abs(np.var(found) / (cut / 4) - 1) < 4.5 * math.sqrt(2 / 150)


# Sentence order.


def test_sentence_order_swaps_half_of_the_pairs(make_numbered, length):
    lengths = make_lengths(4, 400)
    corpus, place = make_numbered(lengths), places(lengths)
    labels = Counter()
    for first, second, belongs in pairs_of(objective(pairs="sentence_order", length=length), corpus):
        before, after = (first, second) if belongs else (second, first)
        assert runs_on(before)
        assert runs_on(after)
        assert place[int(before[0])][0] == place[int(after[0])][0]
        assert after[0] > before[-1]
        if len(first) + len(second) < length - 3:
            assert after[0] == before[-1] + 1
        labels[belongs] += 1
    assert close(labels[True] / labels.total(), 0.5, labels.total())


def test_a_sentence_alone_has_no_order(make_numbered):
    corpus = make_numbered([[5], [9]])
    assert list(pairs_of(objective(pairs="sentence_order"), corpus)) == []


# No pairs.


def test_without_pairs_every_token_stands_once(make_numbered):
    corpus = make_numbered([[30, 45], [3], [20, 1, 1]])
    made = objective(pairs="none", length=32, vocab_size=10**6)
    rows = list(made.prepare(corpus, everything(corpus), 64, rng()))
    tokens = [token for row in rows for token in original(row).tolist() if token >= 10]
    assert sorted(tokens) == list(range(10, 10 + 100))
    assert all(np.bincount(row.sequence_ids).max() <= 32 for row in rows)
    sizes = sorted(int(size) for row in rows for size in np.bincount(row.sequence_ids))
    assert sizes == [5, 17, 24, 32, 32]


# The loop of create_pretraining_data.py (google-research/bert), written down slowly and by ourselves.


def slow_pairs(documents, most, draw):
    """Yield A, B and whether B follows, as lists; all sequences are built to the full length."""
    for number, document in enumerate(documents):
        chunk, size, place = [], 0, 0
        while place < len(document):
            chunk.append(document[place])
            size += len(document[place])
            if place == len(document) - 1 or size >= most:
                cut = draw.randint(1, len(chunk) - 1) if len(chunk) >= 2 else 1
                first = [token for sentence in chunk[:cut] for token in sentence]
                if len(chunk) == 1 or draw.random() < 0.5:
                    second, follows = slow_other(documents, number, most - len(first), draw), False
                    place -= len(chunk) - cut
                else:
                    second, follows = [token for sentence in chunk[cut:] for token in sentence], True
                while len(first) + len(second) > most:
                    longer = first if len(first) > len(second) else second
                    longer.pop(0 if draw.random() < 0.5 else -1)
                yield first, second, follows
                chunk, size = [], 0
            place += 1


def slow_other(documents, number, wanted, draw):
    other = number
    while other == number:
        other = draw.randrange(len(documents))
    tokens = []
    for sentence in documents[other][draw.randrange(len(documents[other])) :]:
        tokens += sentence
        if len(tokens) >= wanted:
            break
    return tokens


def slow_choice(ids, share, draw):
    """Choose whole words up to a budget; a word that would exceed it is passed over."""
    words = words_of(ids)
    draw.shuffle(words)
    budget, chosen = max(1, round(len(ids) * share)), []
    for word in words:
        if len(chosen) + len(word) <= budget:
            chosen += word
    return chosen


def alike(ours, theirs, *, sigmas=4.5):
    """Whether the means of two samples differ no more than chance explains."""
    spread = math.sqrt(np.var(ours) / len(ours) + np.var(theirs) / len(theirs))
    return abs(np.mean(ours) - np.mean(theirs)) <= sigmas * spread + 1e-12


PAIR_FIGURES = {
    "follows": lambda _, __, follows: follows,
    "first": lambda first, *_: len(first),
    "second": lambda _, second, __: len(second),
    "second that follows": lambda _, second, follows: len(second) * follows,
    "whole": lambda first, second, _: len(first) + len(second),
    "squared": lambda first, *_: len(first) ** 2,
    "full": lambda first, second, _: len(first) + len(second) == 61,
}


def test_pairs_are_distributed_as_in_the_original(make_numbered):
    lengths = make_lengths(6, 1500)
    corpus = make_numbered(lengths)
    documents = [[sentence.tolist() for sentence in corpus.document_sentences(index)] for index in range(len(corpus))]
    made = objective(length=64, short_share=0.0)
    ours = list(pairs_of(made, corpus))
    theirs = list(slow_pairs(documents, 61, random.Random(0)))
    for name, figures in PAIR_FIGURES.items():
        assert alike([figures(*pair) for pair in ours], [figures(*pair) for pair in theirs]), name
    counts = [Counter(places_of(pairs, places(lengths))) for pairs in (ours, theirs)]
    per_document = [[count[document] for document in range(len(lengths))] for count in counts]
    assert alike(*per_document)


def places_of(pairs, place):
    return [place[int(first[0])][0] for first, _, _ in pairs]


def test_words_are_chosen_as_in_the_original():
    made = objective(vocab_size=3000, continues_word=WORDS)
    draw, slow_draw = rng(), random.Random(0)
    ours, theirs, by_size = [], [], {size: ([], []) for size in (1, 2, 3, 4)}
    for _ in range(1500):
        row = made.sequence(word_tokens(draw, 20), word_tokens(draw, 27), True, draw)
        ids = original(row)
        chosen = set(row.targets["language_model"].index.tolist())
        slowly = set(slow_choice(ids, 0.15, slow_draw))
        ours.append(len(chosen))
        theirs.append(len(slowly))
        for word in words_of(ids):
            if len(word) in by_size:
                by_size[len(word)][0].append(word[0] in chosen)
                by_size[len(word)][1].append(word[0] in slowly)
    assert alike(ours, theirs)
    for size, (fast, slow) in by_size.items():
        assert alike(fast, slow), size


# The loss.


def test_both_losses_are_sums_over_their_own_targets(make_model, make_numbered):
    corpus = make_numbered([[3, 2, 4], [5, 5, 4]])
    made = objective(length=16, vocab_size=40, pair_weight=0.25)
    rows = list(made.prepare(corpus, everything(corpus), 40, rng()))
    model = make_model(made.heads, attention="bidirectional", type_vocab_size=2, pooling="first", pooler="tanh")
    batch = collate(rows)
    with torch.no_grad():
        hidden_states = model(batch)
        chances = {head: model.read(head, hidden_states, batch).softmax(-1) for head in made.heads}
    losses = made.loss(model, batch)
    assert list(losses) == ["masked_lm", "next_sentence"]
    for name, head, weight in (("masked_lm", "language_model", 1.0), ("next_sentence", "next_sentence", 0.25)):
        values = [value for row in rows for value in row.targets[head].value.tolist()]
        expected = -sum(math.log(chances[head][number, value]) for number, value in enumerate(values))
        assert float(losses[name].sum.detach()) == pytest.approx(expected, rel=1e-12)
        assert losses[name].count == made.counts(batch)[name] == len(values) > 1
        assert losses[name].weight == weight


@pytest.mark.parametrize("pairs", ["sentence_order", "none"])
def test_losses_are_named_after_the_pairs(make_model, make_numbered, pairs):
    corpus = make_numbered([[3, 2, 4, 1, 5]])
    made = objective(length=16, pairs=pairs)
    batch = collate(list(made.prepare(corpus, everything(corpus), 40, rng())))
    names = ["masked_lm"] if pairs == "none" else ["masked_lm", "sentence_order"]
    losses = made.loss(make_model(made.heads, attention="bidirectional"), batch)
    assert list(losses) == list(made.counts(batch)) == names


# Spans, shifted targets, a share that falls.


def spans_of(index):
    """Return the lengths of the runs of neighbours."""
    return [len(run) for run in np.split(index, np.flatnonzero(np.diff(index) > 1) + 1)]


def test_neighbours_are_masked_together():
    text = np.arange(100, 1100)
    shares = {}
    for longest in (1, 3):
        made = objective(vocab_size=2000, pairs="none", longest_span=longest, length=1200)
        runs = [
            length
            for seed in range(20)
            for length in spans_of(made.sequence(text, text[:0], True, rng(seed)).targets["language_model"].index)
        ]
        shares[longest] = np.mean(runs)
    # at 15 % chance alone joins some; spans of 1 to 3 are 2 long on average
    assert shares[1] == pytest.approx(1 / 0.85, rel=0.05)
    assert shares[3] == pytest.approx(2 / 0.85, rel=0.1)


@pytest.mark.parametrize("longest", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [1, 2, 5, 40, 333])
def test_spans_keep_to_the_share(longest, size):
    made = objective(vocab_size=2000, pairs="none", longest_span=longest, length=400)
    for seed in range(5):
        row = made.sequence(np.arange(100, 100 + size), np.zeros(0, dtype=np.int64), True, rng(seed))
        index = row.targets["language_model"].index
        assert len(index) == max(1, round(0.15 * (size + 2)))
        assert len(set(index.tolist())) == len(index)
        assert original(row).tolist() == [CLS, *range(100, 100 + size), SEP]


def test_spans_of_words_end_where_words_do():
    continues = np.zeros(2000, dtype=bool)
    continues[101:200:3] = continues[102:200:3] = True  # words of three tokens: 100 101 102, 103 104 105, …
    made = objective(vocab_size=2000, pairs="none", longest_span=3, continues_word=continues, length=200)
    lengths = []
    for seed in range(40):
        row = made.sequence(np.arange(100, 199), np.zeros(0, dtype=np.int64), True, rng(seed))
        values = sorted(row.targets["language_model"].value.tolist())
        assert all(value in values for first in values for value in range(first - (first - 100) % 3, first + 1))
        lengths += spans_of(np.array(values))
    assert set(lengths) >= {3, 6, 9}


def test_a_token_may_be_predicted_from_the_position_before_it():
    text = np.arange(10, 30)
    plain, shifted = (
        objective(pairs="none", shifted=each).sequence(text, text[:0], True, rng(4)) for each in (False, True)
    )
    one, other = plain.targets["language_model"], shifted.targets["language_model"]
    assert np.array_equal(plain.input_ids, shifted.input_ids)
    assert np.array_equal(one.value, other.value)
    assert np.array_equal(one.index - 1, other.index)
    assert other.index.min() >= 0


def test_the_share_goes_in_a_line():
    made = objective(mask_share=0.3, final_mask_share=0.15)
    assert [made.at(done).mask_share for done in (0.0, 0.5, 1.0)] == pytest.approx([0.3, 0.225, 0.15])
    assert objective(mask_share=0.3).at(0.7).mask_share == 0.3


def test_texts_are_cut_where_rows_are_shorter_than_those_laid_out(make_corpus):
    corpus = make_corpus([[list(range(100, 350))], [list(range(400, 437))]])
    made = objective(pairs="none", length=128)
    rows = made.finish(made.lay_out(corpus, everything(corpus), 128, rng()), 32, rng())
    assert max(map(len, rows)) == 32
    assert sum(len(row) for row in rows) - 2 * sum(int(row.sequence_ids.max()) + 1 for row in rows) == 250 + 37
    predicted = np.concatenate([row.targets["language_model"].value for row in rows])
    assert len(set(predicted.tolist())) == len(predicted), "no token is there twice"


def test_a_pair_that_does_not_fit_is_refused(make_corpus):
    corpus = make_corpus([[[token] * 20 for token in range(10, 30)] for _ in range(3)])
    made = objective(length=64)
    with pytest.raises(UserError, match="does not fit a row of 32"):
        made.finish(made.lay_out(corpus, everything(corpus), 64, rng()), 32, rng())


def test_rows_shorter_than_its_length_get_shorter_sequences(make_corpus):
    corpus = make_corpus([[[token] * 7 for token in range(10, 30)] for _ in range(20)])
    rows = list(objective(length=128).prepare(corpus, everything(corpus), 32, rng()))
    assert max(map(len, rows)) == 32
    assert np.mean([len(row) for row in rows]) > 28
