import copy
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import DamagedFileError, UserError
from bothways.execution.execution import map_items
from bothways.text.overlap.index import Match
from bothways.text.overlap.overlap import (
    ContaminationReport,
    Decontamination,
    HashedExamples,
    OverlapIndex,
    OverlapIndexBuilder,
    normalised,
    overlap,
)

SYLLABLES = ("ba", "ko", "mi", "ter", "lun", "sa", "dor", "vi", "pel", "gra", "ne", "stu", "rik", "fo", "hal", "ze")
IDEOGRAPHS = [chr(code) for code in range(0x4E00, 0x5200)]


def vocabulary(size=3000, seed=0):
    rng = random.Random(seed)
    return sorted({"".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(size)})


WORDS = vocabulary()


def sentence(rng, length):
    """Return words drawn as language is: a few are frequent, most are rare."""
    weights = [1 / (rank + 1) for rank in range(len(WORDS))]
    return rng.choices(WORDS, weights=weights, k=length)


def built(texts, **options):
    builder = OverlapIndexBuilder(Decontamination(**options))
    for number, text in enumerate(texts, 1):
        builder.add(text, f"test.jsonl:{number}")
    return builder.build()


def changed(rng, words, at=None):
    """Return the words with one of them exchanged for a word that is in no vocabulary."""
    at = rng.randrange(len(words)) if at is None else at
    return [*words[:at], f"xx{rng.randrange(10**6)}", *words[at + 1 :]]


# Words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Don’t stop", "DON'T, stop!"),
        ("Café crème", "CAFE\u0301 creme"),
        ("ｆｕｌｌ　width，text", "full width text"),
        ("straße", "STRASSE"),
        ("ﬁne ½", "fine 1 2"),
        ("一二 三，四。", "一二三四"),
        ("\u2f00\uf900", "\u4e00\u8c48"),  # a radical and a compatibility ideograph
        ("한글", "\u1112\u1161\u11ab\u1100\u1173\u11af"),
        ("ab\u00adc\u200bd", "abcd"),
        ("well-known", "well known"),
        ("ΣΊΣΥΦΟΣ", "Σίσυφος"),
        ("word\r\n\tword", "word word"),
    ],
)
def test_case_width_accents_punctuation_and_spacing_do_not_matter(one, other):
    assert normalised(one) == normalised(other)
    assert overlap([one], [other]).exact == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("?! ... — 。", []),
        ("Zürich, 1,000.5 «km»", ["zurich", "1", "000", "5", "km"]),
        ("他说:hello世界", ["他", "说", "hello", "世", "界"]),
        ("snake_case", ["snake", "case"]),
        ("कखग привет", ["कखग", "привет"]),
        ("\ud800 lone", ["lone"]),
    ],
)
def test_words_are_those_of_both_languages(text, words):
    assert normalised(text).split() == words


@pytest.mark.parametrize(
    ("one", "other"), [("ab", "ba"), ("a b", "b a"), ("a bc", "ab c"), ("中国", "国中"), ("1", "2")]
)
def test_other_words_are_not_the_same(one, other):
    assert overlap([one], [other]).found == 0


@given(st.lists(st.text(max_size=12), max_size=20))
@settings(max_examples=100, deadline=None)
def test_a_text_is_found_in_itself_however_it_is_cut_into_lines(parts):
    text, folded = " ".join(parts), "\n\n".join(parts).upper().lower()
    report = overlap([text], [text])
    assert report.exact == (1 if normalised(text) else 0)
    if normalised(text) == normalised(folded) != "":
        assert overlap([folded], [text]).exact == 1


def test_hashes_are_the_same_in_every_process_and_in_every_release():
    code = (
        "from bothways.text.overlap.word_hashes import hash_texts, digests\n"
        "found = hash_texts(['The quick brown fox', '中文 字'])\n"
        "print(found.hashes.tolist(), digests(found).tolist())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **extra}
        ).stdout
        for extra in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "LC_ALL": "C"})
    }
    assert said == {
        "[12348592265743417296, 5236379629028232574, 4072609311124600074, 8397095438659796035, 1688737259677393944, "
        "6141225306369727769, 16044204887976480323] [15987128131805561199, 3002836576984187522]\n"
    }


def test_it_needs_nothing_heavy():
    code = (
        "import sys, bothways.text.overlap.overlap, bothways.text.overlap.leaks\n"
        "print(sorted({'torch', 'pyarrow', 'datasets', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# Documents


def test_thirteen_words_in_a_row_are_found_and_twelve_are_not():
    rng = random.Random(0)
    test = sentence(rng, 40)
    index = built([" ".join(test)], differing=0)
    for start in range(28):
        for count in (13, 12):
            document = " ".join([*sentence(rng, 30), "xx", *test[start : start + count], "yy", *sentence(rng, 30)])
            found = index.contaminated(document)
            if count == 12:
                assert found is None
                continue
            assert found == Match(
                source="test.jsonl:1", kind="ngram", word=31, excerpt=" ".join(test[start : start + 13])
            )


def test_one_of_the_thirteen_words_may_differ_and_two_may_not():
    rng = random.Random(1)
    test = sentence(rng, 30)
    index = built([" ".join(test)])
    strict = built([" ".join(test)], differing=0)
    for start in range(0, 18):
        window = test[start : start + 13]
        for at in range(13):
            other = changed(rng, window, at)
            document = " ".join([*sentence(rng, 20), "aa", *other, "bb", *sentence(rng, 20)])
            assert index.contaminated(document).kind == "near", (start, at)
            assert strict.contaminated(document) is None
            twice = changed(rng, other, (at + 5) % 13)
            assert index.contaminated(" ".join(["aa", *twice, "bb"])) is None


@pytest.mark.parametrize("length", [8, 9, 10, 11, 12])
def test_of_eight_to_twelve_words_all_are_needed_but_for_one(length):
    rng = random.Random(length)
    test = sentence(rng, length)
    index = built([" ".join(test)])
    before, after = [*sentence(rng, 20), "aa"], ["bb", *sentence(rng, 20)]
    assert index.contaminated(" ".join([*before, *test, *after])).kind == "ngram"
    assert index.contaminated(" ".join(test)).kind == "exact"
    for at in range(length):
        near = changed(rng, test, at)
        found = index.contaminated(" ".join([*before, *near, *after]))
        assert (found.kind, found.word) == ("near", 21)
        assert index.contaminated(" ".join([*before, *changed(rng, near, (at + 1) % length), *after])) is None
    assert index.contaminated(" ".join([*before, *test[1:-1], *after])) is None
    assert index.contaminated(" ".join([*before, *test[:-1]])) is None  # the document ends too early
    assert index.contaminated(" ".join([*test[1:], *after])) is None  # it begins too late


def test_shorter_texts_count_only_as_whole_documents():
    index = built(["A fine film!", "", "。。", "one two three four five six seven"])
    assert index.too_short == 4
    assert index.contaminated("a fine FILM").kind == "exact"
    assert index.contaminated("it is a fine film") is None
    assert index.contaminated(" \n" * 70_000 + "a fine film") == Match(
        source="test.jsonl:1", kind="exact", word=0, excerpt="a fine film"
    )
    assert index.contaminated("") is None
    assert index.contaminated("...") is None


def test_no_match_goes_over_the_end_of_a_document_or_of_a_test_text():
    rng = random.Random(2)
    one, two = sentence(rng, 20), sentence(rng, 20)
    index = built([" ".join(one), " ".join(two)])
    assert index.contaminated(" ".join([*one[-7:], *two[:6]])) is None
    halves = [" ".join(one[:8]), " ".join(one[8:16])]
    assert list(index.contaminated_each(halves)) == [None, None]
    assert [match.source for match in index.find(" ".join([*two, *one]))] == ["test.jsonl:2", "test.jsonl:1"]


def test_a_long_document_is_searched_to_its_end_wherever_the_text_stands():
    rng = random.Random(3)
    filler = sentence(rng, 50_000)
    test = sentence(rng, 25)
    index = built([" ".join(test)])
    assert index.contaminated(" ".join(filler)) is None
    places = [0, 50_000, *(rng.randrange(50_000) for _ in range(20))]
    for place in places:
        for planted, kind in ((test[3:16], "ngram"), (changed(rng, test[3:16], rng.randrange(13)), "near")):
            document = " ".join([*filler[:place], *planted, *filler[place:]])
            assert len(document) > 4 * (1 << 16)  # more than one piece
            found = index.contaminated(document)
            assert found.kind == kind
            assert abs(found.word - place) <= 2  # a word before or after the planted ones may agree, too


def test_a_match_across_two_pieces_is_found():
    rng = random.Random(4)
    test = sentence(rng, 13)
    index = built([" ".join(test)])
    for shift in range(0, 130, 3):
        before = ("x" * 63 + " ") * 1023 + "y" * shift  # ends just before 65,536 characters
        assert index.contaminated(f"{before} {' '.join(test)} after").kind == "ngram"
        assert index.contaminated(f"{before}。{'。'.join(test)}。").kind == "ngram"
    han = "".join(rng.choices(IDEOGRAPHS, k=13))
    index = built([han])
    for shift in range(13):
        assert index.contaminated("字" * (65_536 - shift) + han).kind == "ngram"  # without any white space


def test_the_recall_of_planted_copies_is_complete_and_nothing_else_is_flagged():
    rng = random.Random(5)
    tests = [" ".join(sentence(rng, rng.randint(13, 60))) for _ in range(500)]
    index = built(tests)
    documents, expected = [], []
    for number in range(1500):
        words = sentence(rng, rng.randint(50, 400))
        kind = ("clean", "exact", "cased", "near")[number % 4]
        test = rng.choice(tests).split()
        planted = {"clean": [], "cased": [word.upper() + "," for word in test], "near": changed(rng, test)}.get(
            kind, test
        )
        place = rng.randrange(len(words))
        documents.append(" ".join([*words[:place], *planted, *words[place:]]))
        expected.append(kind != "clean")
    found = [match is not None for match in index.contaminated_each(documents)]
    assert found == expected


def test_chinese_is_searched_by_characters():
    rng = random.Random(6)
    tests = ["".join(rng.choices(IDEOGRAPHS, k=30)) for _ in range(50)]
    index = built(tests)
    clean = "".join(rng.choices(IDEOGRAPHS, k=2000))
    assert index.contaminated(clean) is None
    assert index.contaminated(f"{clean}，{tests[7][5:18]}。{clean}").kind == "ngram"
    assert index.contaminated(f"{clean}{tests[7][5:11]}错{tests[7][12:18]}{clean}").kind == "near"
    assert index.contaminated(f"{clean}{tests[7][5:16]}{clean}") is None


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_found_is_what_a_slow_search_finds(data):
    letters = st.sampled_from("abcd")  # so few words that much is common by chance
    test = [data.draw(st.lists(letters, min_size=0, max_size=30)) for _ in range(3)]
    document = data.draw(st.lists(letters, min_size=0, max_size=60))
    index = built([" ".join(words) for words in test])
    found = {match.source for match in index.find(" ".join(document))}
    expected = {f"test.jsonl:{number}" for number, words in enumerate(test, 1) if slow(words, document)}
    distinct = {}
    for number, words in enumerate(test, 1):
        distinct.setdefault(" ".join(words), f"test.jsonl:{number}")
    assert found == expected & set(distinct.values())


def slow(test, document):
    if test and test == document:
        return True
    size = min(13, len(test))
    return size >= 8 and any(
        sum(left == right for left, right in zip(test[start : start + size], document[at : at + size], strict=True))
        >= size - 1
        for start in range(len(test) - size + 1)
        for at in range(len(document) - size + 1)
    )


def test_boilerplate_of_many_test_texts_is_not_looked_for():
    rng = random.Random(7)
    boilerplate = sentence(rng, 20)
    texts = [" ".join([*boilerplate, *sentence(rng, 20)]) for _ in range(6)]
    document = " ".join([*sentence(rng, 30), *boilerplate, *sentence(rng, 30)])
    assert built(texts, common=6).contaminated(document) is not None
    index = built(texts, common=5)
    assert index.contaminated(document) is None
    assert index.contaminated(f"{document} {texts[2]}").source == "test.jsonl:3"
    assert built(texts[:1] * 100, common=5).contaminated(document) is not None  # the same text again is one text


def test_identical_test_texts_are_one():
    index = built(["a b c d e f g h i j k l m n", "A b, c d e f g h i j k l m n.", "x"])
    assert [match.source for match in index.find("z a b c d e f g h i j k l m n z")] == ["test.jsonl:1"]
    assert len(index) == 3


def test_an_index_goes_through_files_and_processes_unchanged(tmp_path):
    rng = random.Random(8)
    tests = [" ".join(sentence(rng, length)) for length in (3, 9, 40)]
    index = built(tests, ngram=15, differing=0)
    index.save(tmp_path / "index.npz")
    document = " ".join([*sentence(rng, 20), tests[2], tests[1]])
    (sent,) = map_items(copy.copy, [index], workers=2, describe="sending")
    for again in (OverlapIndex.load(tmp_path / "index.npz"), sent):
        assert again.settings == index.settings
        assert again.sources == index.sources
        assert again.find(document) == index.find(document) != []
        assert again.contaminated(tests[0]) == index.contaminated(tests[0]) is not None
    index.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "index.npz").read_bytes()


def test_a_damaged_index_is_refused(tmp_path):
    index = built(["a b c d e f g h i j"])
    path = tmp_path / "index.npz"
    index.save(path)
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2], whole[:80] + b"\xff" * 40 + whole[120:]):
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"index\.npz"):
            OverlapIndex.load(path)
    np.savez(path, hashes=np.zeros(3, np.uint64), bounds=np.array([0, 5]), about=np.frombuffer(b"{}", np.uint8))
    with pytest.raises(DamagedFileError):
        OverlapIndex.load(path)
    np.savez(path, hashes=np.array([{}], dtype=object), bounds=np.array([0, 1]), about=np.frombuffer(b"{}", np.uint8))
    with pytest.raises(DamagedFileError):
        OverlapIndex.load(path)
    HashedExamples.of(["a b"]).save(path)
    with pytest.raises(DamagedFileError):
        OverlapIndex.load(path)


@pytest.mark.parametrize("wrong", [{"ngram": 12}, {"ngram": 101}, {"differing": 2}, {"differing": -1}, {"common": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Decontamination(**wrong)


@pytest.mark.parametrize("ngram", [13, 14, 15, 20])
def test_any_number_of_words_can_be_asked_for(ngram):
    rng = random.Random(ngram)
    test = sentence(rng, 40)
    index = built([" ".join(test)], ngram=ngram)
    for before in (9, 10):
        for at in range(ngram):
            near = changed(rng, test[4 : 4 + ngram], at)
            assert index.contaminated(" ".join([*sentence(rng, before), "aa", *near, "bb"])) is not None
    short = changed(rng, test[: ngram - 1], 5)
    assert index.contaminated(" ".join([*sentence(rng, 9), *short, *sentence(rng, 9)])) is None


def test_reports_of_parts_merge_to_that_of_the_whole():
    index = built([f"common words that number {number} shares with a document so they are found" for number in "abc"])
    documents = [f"d{number}" for number in range(60)]
    matches = [
        index.contaminated(f"common words that number {'abcx'[number % 4]} shares with a document so they are found")
        for number in range(60)
    ]
    whole = ContaminationReport()
    parts = [ContaminationReport() for _ in range(3)]
    for number, (document, match) in enumerate(zip(documents, matches, strict=True)):
        whole.add(document, match)
        parts[number // 20].add(document, match)
    merged = ContaminationReport()
    for part in parts:
        merged.merge(part)
    assert merged == whole
    assert whole.documents == whole.contaminated == 60
    assert whole.kinds == {"exact": 45, "near": 15}
    assert whole.files == {"test.jsonl": 60}
    assert len(whole.examples) == 20
    assert (whole.examples[1].document, whole.examples[1].evaluation) == ("d1", "test.jsonl:2")
    assert json.loads(json.dumps(whole.to_dict()))["contaminated"] == 60


# Task files


def planted(rng, share, kind, *, length=(5, 40)):
    """Return training texts, test texts and the number of the latter that were planted in the former."""
    train = [" ".join(sentence(rng, rng.randint(*length))) for _ in range(1000)]
    test = [" ".join([f"own{number}", *sentence(rng, rng.randint(*length))]) for number in range(500)]
    chosen = rng.sample(range(500), round(share * 500))
    for number in chosen:
        words = test[number].split()
        copy = {"exact": words, "cased": [word.title() + "!" for word in words], "near": changed(rng, words)}[kind]
        train.append(" ".join(copy))
    rng.shuffle(train)
    return train, test, len(chosen)


@pytest.mark.parametrize("share", [0, 0.01, 0.1])
@pytest.mark.parametrize("kind", ["exact", "cased", "near"])
def test_planted_duplicates_are_all_found_and_nothing_else(share, kind):
    train, test, number = planted(random.Random(f"{share}{kind}"), share, kind)
    report = overlap(train, test)
    assert report.of == 500
    assert report.found == number
    assert report.share == pytest.approx(share)
    assert report.exact == (number if kind != "near" else 0)
    assert len(report.examples) == min(20, number)


def test_the_report_says_which_example_and_where():
    rng = random.Random(9)
    train = [" ".join(sentence(rng, 30)) for _ in range(5)]
    test = [" ".join(sentence(rng, 30)) for _ in range(3)] + [train[3].upper()]
    report = overlap(
        train, test, train_sources=[f"train.csv:{at}" for at in range(2, 7)], test_sources=["t:1", "t:2", "t:3", "t:4"]
    )
    [found] = report.examples
    assert (found.test, found.train, found.kind) == ("t:4", "train.csv:5", "exact")
    assert found.excerpt == " ".join(train[3].split()[:13])
    assert report.to_dict() == {
        "exact": 1,
        "ngram": 0,
        "near": 0,
        "share": 0.25,
        "of": 4,
        "examples": [{"test": "t:4", "train": "train.csv:5", "kind": "exact", "excerpt": found.excerpt}],
    }
    assert overlap(train, test).examples[0].train == "4"


@pytest.mark.parametrize("change", ["exchange", "add", "leave out"])
@pytest.mark.parametrize("length", [5, 7, 12, 20])
def test_whole_examples_that_differ_by_one_word_are_near(length, change):
    rng = random.Random(length)
    test = sentence(rng, length)
    for at in range(length):
        train = {
            "exchange": changed(rng, test, at),
            "add": [*test[:at], "xx", *test[at:]],
            "leave out": [*test[:at], *test[at + 1 :]],
        }[change]
        assert overlap([" ".join(train)], [" ".join(test)]).found == 1, at


def test_short_texts_are_near_only_from_five_words_on():
    assert overlap(["a fine old film"], ["a fine new film"]).found == 0
    assert overlap(["a fine old film indeed"], ["a fine new film indeed"]).near == 1
    assert overlap(["a fine film"], ["A fine film!"]).exact == 1


def test_duplicates_are_found_across_columns():
    rng = random.Random(10)
    context = " ".join(sentence(rng, 120))
    article = " ".join([*sentence(rng, 200), context, *sentence(rng, 200)])
    other = " ".join(sentence(rng, 120))
    tests = [
        {"question": "Who was it?", "context": context, "answer": "he"},
        {"question": "When was it?", "context": context, "answer": "then"},
        {"question": "Who was it?", "context": other, "answer": "he"},
    ]
    trains = [{"question": "Who was it?", "context": article, "answer": "he"}]
    report = overlap(trains, tests)
    assert (report.ngram, report.exact, report.near, report.of) == (2, 0, 0, 3)  # short questions say nothing
    near = " ".join(changed(rng, context.split()))
    assert overlap([{"document": near}], tests).ngram == 2
    assert overlap([{"text": context.upper()}], tests).exact == 2
    query = " ".join(sentence(rng, 6))
    assert overlap([{"document": query}], [{"query": query, "document": other}]).exact == 1


def test_template_questions_about_others_are_not_flagged():
    rng = random.Random(11)
    contexts = [" ".join(sentence(rng, 80)) for _ in range(2)]
    trains = [{"question": "In which year was Napoleon born again and why?", "context": contexts[0]}]
    tests = [{"question": "In which year was Einstein born again and why?", "context": contexts[1]}]
    assert overlap(trains, tests).found == 0


def test_a_common_phrase_in_two_long_texts_is_no_overlap():
    rng = random.Random(12)
    phrase = sentence(rng, 16)
    one, other = ([*sentence(rng, 100), *phrase, *sentence(rng, 100)] for _ in range(2))
    assert overlap([" ".join(one)], [" ".join(other)]).found == 0
    shared = sentence(rng, 40)
    one, other = ([*sentence(rng, 100), *shared, *sentence(rng, 100)] for _ in range(2))
    assert overlap([" ".join(one)], [" ".join(other)]).ngram == 1
    assert overlap([" ".join(one)], [" ".join(shared[:30])]).ngram == 1


def test_scattered_pieces_of_a_text_add_up():
    rng = random.Random(13)
    test = sentence(rng, 90)
    pieces = [test[start : start + 15] for start in (0, 30, 60)]
    train = [word for piece in pieces for word in [*piece, *sentence(rng, 10)]]
    assert overlap([" ".join(train)], [" ".join(test)]).ngram == 1
    assert overlap([" ".join(train[:25])], [" ".join(test)]).found == 0


def test_hashed_examples_find_the_same_as_texts(tmp_path):
    rng = random.Random(14)
    train, test, number = planted(rng, 0.1, "near", length=(20, 400))
    kept = HashedExamples.of(train, [f"train.csv:{at}" for at in range(len(train))])
    kept.save(tmp_path / "kept.npz")
    again = HashedExamples.load(tmp_path / "kept.npz")
    assert len(again) == len(train)
    assert overlap(again, test) == overlap(iter(train), test, train_sources=kept.sources)
    assert overlap(again, test).found == number
    size = (tmp_path / "kept.npz").stat().st_size
    assert size < 10 * len(again.texts.hashes) + 20 * len(train)
    for text in train[:50]:
        assert text.encode() not in (tmp_path / "kept.npz").read_bytes()


def test_damaged_hashed_examples_are_refused(tmp_path):
    HashedExamples.of(["a b", "c"]).save(tmp_path / "kept.npz")
    (tmp_path / "kept.npz").write_bytes((tmp_path / "kept.npz").read_bytes()[:-30])
    with pytest.raises(DamagedFileError):
        HashedExamples.load(tmp_path / "kept.npz")
    built(["a b"]).save(tmp_path / "kept.npz")
    with pytest.raises(DamagedFileError, match="no file of hashed examples"):
        HashedExamples.load(tmp_path / "kept.npz")


def test_sources_must_be_as_many_as_examples():
    with pytest.raises(ValueError, match="argument"):
        HashedExamples.of(["a", "b"], ["1"])


def test_nothing_overlaps_with_nothing():
    for train, test in (([], ["a b"]), (["a b"], []), ([""], ["", "..."]), ([{}], [{"number": 3}])):
        report = overlap(train, test)
        assert (report.found, report.of, report.share) == (0, len(test), 0)


# Real data


def read_lines(path):
    """Return the lines of a file packed with zstandard."""
    zstandard = pytest.importorskip("zstandard")
    with path.open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file).read().decode().split("\n")


@pytest.mark.slow
def test_the_known_duplicates_of_film_reviews_are_found_and_common_phrases_are_not(data_dir):
    train, test = (
        [json.loads(line)["text"] for line in read_lines(data_dir / f"classification/imdb/{side}.jsonl.zst") if line]
        for side in ("train", "test")
    )
    report = overlap(train, test)
    known = {normalised(text) for text in train}
    assert report.exact == sum(normalised(text) in known for text in test) == 123
    assert report.ngram + report.near <= 25
