"""The bounded counters of the data doctor, against exact counts."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.advise.inspect.characters import Characters, kind, language_of, mojibake, script
from bothways.advise.inspect.counting import EXACT, Distribution, Frequent, Reservoir, Worst
from bothways.advise.inspect.findings import counted, error, ranked, remark, share, warning
from bothways.language import word_list


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=200))
def test_a_distribution_is_exact_at_its_ends_and_near_in_between(values):
    found = Distribution()
    found.add_all(values)
    assert (found.count, found.total, found.smallest, found.largest) == (
        len(values),
        sum(values),
        min(values),
        max(values),
    )
    for part in (0.05, 0.5, 0.95):
        exact = sorted(values)[max(0, -(-int(part * len(values) * 1000) // 1000) - 1)]
        at_least = sum(value <= found.quantile(part) * 1.04 + 1 for value in values)
        assert at_least >= part * len(values) - 1e-9, exact
    assert sum(number for _, _, number in found.bars()) == len(values)


def test_small_numbers_are_counted_exactly():
    found = Distribution()
    found.add_all([5] * 50 + [EXACT - 1] * 50)
    assert found.quantile(0.5) == 5
    assert found.quantile(0.51) == EXACT - 1
    assert found.mean == pytest.approx(34)


def test_bars_widen_and_leave_nothing_out():
    found = Distribution()
    found.add_all([0, 3, 7, 8, 100])
    bars = found.bars()
    assert bars[0] == (0, 1, 1)
    assert [start for start, _, _ in bars] == [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]
    assert [stop for _, stop, _ in bars[:-1]] == [start for start, _, _ in bars[1:]]
    assert {start: number for start, _, number in bars}[96] == 1
    assert Distribution().bars() == []


def test_a_distribution_holds_few_bins_whatever_it_counts():
    found = Distribution()
    found.add_all(range(0, 3_000_000, 7))
    assert len(found._bins) < 1000
    assert found.quantile(0.5) == pytest.approx(1_500_000, rel=0.03)


def test_the_commonest_strings_survive_a_flood_of_rare_ones():
    found = Frequent(limit=1000)
    rng = random.Random(0)
    truth = Counter()
    for number in range(100):
        lines = [f"rare {number} {at}" for at in range(300)] + rng.choices(["a", "b", "c"], k=30)
        truth.update(lines)
        found.add_all(lines)
    assert len(found._counts) <= 1000
    assert found.seen == truth.total()
    for string, number in found.top(3):
        assert truth[string] - found.missed <= number <= truth[string]
    assert {string for string, _ in found.top(3)} == {"a", "b", "c"}
    assert found.missed


def test_without_a_flood_counts_are_exact():
    found = Frequent()
    found.add_all(["b", "a", "b", "c", "a", "d"])
    assert found.top(5) == [("a", 2), ("b", 2)]
    assert (found.repeated, found.seen, found.missed) == (2, 6, 0)


def test_a_reservoir_is_fair_and_the_same_for_a_seed():
    def draw(seed):
        reservoir = Reservoir(5, seed)
        for item in range(1000):
            reservoir.add(item)
        return reservoir.items

    assert draw(0) == draw(0) != draw(1)
    assert sum(sum(draw(seed)) / 5 for seed in range(100)) / 100 == pytest.approx(500, abs=60)


def test_the_worst_are_kept_and_the_first_of_equals():
    worst = Worst(2)
    for at, value in enumerate([1, 5, 3, 5, 5, 2]):
        assert worst.wants(value) or value <= 5
        worst.add(value, at)
    assert worst.items() == [(5, 1), (5, 3)]
    assert not worst.wants(5)


@pytest.mark.parametrize(
    ("character", "expected"),
    [
        ("a", "letter"), ("中", "letter"), ("́", "letter"), ("7", "digit"), ("\n", "space"), ("\u3000", "space"),
        ("\x07", "control"),
        ("\ufeff", "control"), ("\u200d", "symbol"), ("\ue000", "private use"), ("\ufffd", "replacement"), ("，", "symbol"),
    ],
)  # fmt: skip
def test_characters_have_kinds(character, expected):
    assert kind(character) == expected


@pytest.mark.parametrize(
    ("letter", "expected"), [("é", "latin"), ("中", "han"), ("ж", "cyrillic"), ("か", "hiragana"), ("ⴰ", "other")]
)
def test_letters_have_scripts(letter, expected):
    assert script(letter) == expected


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (
            "It was the best of times, it was the worst of times, it was the age of wisdom and of the spring of hope.",
            "en",
        ),
        (
            "C'était le meilleur des temps, le pire des temps, l'âge de la sagesse et de la folie, l'époque de la foi.",
            "other",
        ),
        ("那是最美好的时代，那是最糟糕的时代。", "zh"),
        ("これは日本語の文章です。とてもみじかい。", "other"),
        ("Это было лучшее из времен.", "other"),
        ("good film", "en"),
        ("12, 34 !!", "none"),
    ],
)
def test_the_language_of_a_document(text, language):
    assert language_of(Characters.of(Counter(text)), word_list(text)) == language


def test_mojibake_is_told_from_french():
    broken = "It’s a café — naïve".encode().decode("cp1252")
    assert mojibake(broken, Counter(broken)) == 4
    for sound in ("Ça, c'est à côté; l'âme â €", "NÃO, São Paulo, ação", "中文没有问题"):
        assert mojibake(sound, Counter(sound)) == 0
    assert mojibake("这里锟斤拷那里", Counter("这里锟斤拷那里")) == 1


def test_findings_are_ranked_and_read_as_sentences():
    found = ranked(
        [remark("a", "x", "y"), error("b", "1 line is bad", "mend it"), warning("c", "x", "y"), error("d", "x", "y")]
    )
    assert [finding.topic for finding in found] == ["b", "d", "c", "a"]
    assert str(found[0]) == "1 line is bad; mend it."
    assert [counted(1, "copy"), counted(2, "copy"), counted(1234, "class")] == ["1 copy", "2 copies", "1,234 classes"]
    assert [share(1, 3), share(1, 3000), share(0, 3), share(0, 0), share(1, 10**6)] == [
        "33 %",
        "0.033 %",
        "0 %",
        "0 %",
        "under 0.01 %",
    ]
