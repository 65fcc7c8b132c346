import io
import json
import random
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import UserError
from bothways.text.cleaning.boilerplate import boilerplate_lines, count_lines, merge_line_counts, propose_lines
from bothways.text.cleaning.cleaning import Cleaner, Cleaning, CleaningReport

PROSE = "It was a bright cold day in April, and the clocks were striking.\n" * 4
CHINESE = "一二三四五六七八九十，百千万亿。" * 4


def clean(text: str, **cleaning) -> str | None:
    return Cleaner(Cleaning(**cleaning)).clean(text)


def dropped_by(text: str, language="auto", **cleaning) -> str | None:
    cleaner = Cleaner(Cleaning(**cleaning), language=language)
    assert (cleaner.clean(text) is None) == bool(cleaner.report.dropped)
    return next(iter(cleaner.report.dropped), None)


DIRTY = "\ufeffIt’s “fine”.\r\nâ€™Tis\u200b cafe\u0301 \t\n\n\n\n\n\x1b[31mred\x1b[0m\x07 👩‍🚀\n"


def test_the_defaults_mend_characters_and_lines():
    assert clean(DIRTY) == "It’s “fine”.\n’Tis café\n\n\nred 👩‍🚀\n"


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "　　第一段。\n　　第二段，“引号”——《书名》……\n\n\n第二章\n",
        "Roses\n\tare red\n\n\nviolets   are blue",
        "“Ça va?”—naïve café, 1½ × 2 ≠ 3 ™ ﬁ ① ㎏ Ａ，",
        "می‌خواهم क्‍ष 👨‍👩‍👧 Tiếng Việt Ελλάς Привет 한국어 カナ",
        "No.\nNo.\nNo.\n-----\na\n-----\nb\n-----",
        "x",
    ],
)
def test_the_defaults_leave_good_text_alone(text):
    cleaner = Cleaner(Cleaning())
    assert cleaner.clean(text) is text
    assert cleaner.report == CleaningReport(documents=1, kept=1, characters=len(text), characters_kept=len(text))


STEPS = [
    ("mojibake", "l’Ã©tÃ©, â€œsiâ€”", "l’été, “si—"),
    ("line_ends", "a\r\nb\u2028c", "a\nb\nc"),
    ("control_characters", "a\x07b\ufeffc", "abc"),
    ("unicode", "cafe\u0301", "café"),
    ("trailing_space", "a \nb", "a\nb"),
    ("blank_lines", "a\n\n\n\nb", "a\n\n\nb"),
]
OFF = {
    "mojibake": False,
    "line_ends": False,
    "control_characters": False,
    "unicode": "none",
    "trailing_space": False,
    "blank_lines": None,
}


@pytest.mark.parametrize(("name", "dirty", "expected"), STEPS)
def test_each_step_can_be_switched_and_is_counted_alone(name, dirty, expected):
    cleaner = Cleaner(Cleaning())
    assert cleaner.clean(dirty) == expected
    step = cleaner.report.steps.pop(name)
    assert not cleaner.report.steps
    assert (step.documents, step.characters) == (1, len(dirty) - len(expected))
    assert step.lines == dirty.count("\n") - expected.count("\n")
    assert clean(dirty, **{name: OFF[name]}) == dirty
    only = {**OFF, name: getattr(Cleaning(), name)}
    assert clean(dirty, **only) == expected


def test_optional_steps():
    assert clean("a\ue000b") == "a\ue000b"
    assert clean("a\ue000b", private_use=True) == "ab"
    assert clean("ﬁ，Ａ", unicode="NFKC") == "fi,A"
    assert clean("a\nb\na\nc\na", repeated_lines=2) == "a\nb\nc"
    assert clean("a\na\nb", consecutive_lines=True) == "a\nb"
    assert clean("a\n\nb", blank_lines=0) == "a\nb"


def test_boilerplate_is_removed_and_counted():
    cleaner = Cleaner(Cleaning(), boilerplate={"Share this page with friends"})
    assert cleaner.clean("Text\n Share this page with friends \nMore") == "Text\nMore"
    assert cleaner.report.steps["boilerplate_documents"].lines == 1


def test_what_one_step_lays_bare_the_next_one_takes():
    assert clean("Ã\u200b©t") == "ét"
    assert clean("e\u200b\u0301") == "é"
    assert clean("a \u200b\n\x07\n\n\n\nb") == "a\n\n\nb"
    cleaner = Cleaner(Cleaning(consecutive_lines=True), boilerplate={"x"})
    assert cleaner.clean("a\nx\na\nx\nb") == "a\nb"
    assert cleaner.report.steps["boilerplate_documents"].documents == 1


@pytest.mark.parametrize(
    ("text", "language", "setting", "value", "fits"),
    [
        ("  ab \n", "auto", "min_characters", 3, 2),
        ("abc", "auto", "max_characters", 2, 3),
        ("中文 abcdef", "zh", "language_share", 0.3, 0.25),
        ("中文 abcdef", "en", "language_share", 0.8, 0.75),
        ("a###", "auto", "max_symbol_share", 0.7, 0.75),
        ("a123", "auto", "max_digit_share", 0.7, 0.75),
        ("a bc", "auto", "min_word_length", 1.6, 1.5),
        ("abcd efghi", "auto", "max_word_length", 4.4, 4.5),
        ("a\na\nb\nc", "auto", "max_repeated_lines", 0.2, 0.25),
        ("buy now buy now", "auto", "min_unique_words", 0.6, 0.5),
        ("a b c a b c d e", "auto", "max_phrase_share", 0.7, 0.75),
    ],
)
def test_each_filter_drops_beyond_its_limit_and_keeps_at_it(text, language, setting, value, fits):
    assert dropped_by(text, language) is None
    assert dropped_by(text, language, **{setting: value}) == setting
    assert dropped_by(text, language, **{setting: fits}) is None


def test_word_length_is_not_asked_of_chinese():
    assert dropped_by(CHINESE, max_word_length=10) is None
    assert dropped_by(CHINESE, "en", max_word_length=10) == "max_word_length"
    assert dropped_by("x" * 20, "zh", max_word_length=10) is None


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\x00\x07", "\ufeff", "\r\n\u200b\u3000"])
def test_what_is_empty_after_cleaning_is_dropped(text):
    assert dropped_by(text) == "min_characters"


def test_filters_judge_the_cleaned_text():
    assert dropped_by("a\u200b\u200b\u200b", min_characters=2) == "min_characters"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"boilerplate_documents": 1}, "boilerplate_documents must be at least 2"),
        ({"repeated_lines": 0}, "repeated_lines must be at least 1"),
        ({"blank_lines": -1}, "blank_lines must be at least 0"),
        ({"min_characters": 0}, "min_characters must be at least 1"),
        ({"min_characters": 10, "max_characters": 9}, "max_characters must be at least 10"),
        ({"min_word_length": 5.0, "max_word_length": 4.0}, "max_word_length must be at least 5"),
        ({"min_word_length": float("nan")}, "min_word_length"),
        ({"max_symbol_share": 1.5}, "max_symbol_share is a share from 0 to 1"),
        ({"language_share": -0.1}, "language_share is a share"),
        ({"unicode": "NFD"}, "legal: NFC, NFKC, none"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Cleaning(**values)


def test_a_language_is_needed_for_its_share_and_must_exist():
    with pytest.raises(UserError, match="language_share needs the language"):
        Cleaner(Cleaning(language_share=0.5))
    with pytest.raises(UserError, match="unknown language 'fr'"):
        Cleaner(Cleaning(), language="fr")


def test_settings_are_set_by_name():
    cleaning = Cleaning().override(["unicode=NFKC", "blank_lines=none", "max_digit_share=0.5", "mojibake=off"])
    assert cleaning == Cleaning(unicode="NFKC", blank_lines=None, max_digit_share=0.5, mojibake=False)
    assert Cleaning.from_dict(Cleaning.web().to_dict()) == Cleaning.web()


# The report


def documents(seed: int, number: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    kinds = [PROSE, CHINESE, DIRTY, "", "#" * 50, "x\u200b", "spam " * 50, "e\u0301" * 20, "1 2 3\n" * 30]
    return [(rng.choice(kinds) * rng.randint(1, 3), f"{seed}.jsonl:{i}") for i in range(number)]


def run(parts, **cleaning) -> list[CleaningReport]:
    reports = []
    for part in parts:
        cleaner = Cleaner(Cleaning(**cleaning))
        kept = [result for text, source in part if (result := cleaner.clean(text, source)) is not None]
        assert len(kept) == cleaner.report.kept
        assert sum(map(len, kept)) == cleaner.report.characters_kept
        reports.append(cleaner.report)
    return reports


FILTERS = {"unicode": "NFKC", "max_symbol_share": 0.5, "min_unique_words": 0.2, "max_digit_share": 0.3}


def total(reports) -> CleaningReport:
    result = CleaningReport()
    for report in reports:
        result.add(CleaningReport.from_dict(json.loads(json.dumps(report.to_dict()))))
    return result


def test_every_document_and_character_is_accounted_for():
    report = total(run([documents(1, 300)], **FILTERS))
    assert report.documents == 300 == report.kept + sum(report.dropped.values())
    assert set(report.dropped) == {"min_characters", "max_symbol_share", "min_unique_words", "max_digit_share"}
    assert report.characters == report.characters_kept + report.characters_dropped + sum(
        step.characters for step in report.steps.values()
    )
    assert report.changed >= max(step.documents for step in report.steps.values())


def test_reports_add_up_to_the_same_whatever_the_parts_and_their_order():
    everything = documents(2, 200)
    whole = run([everything], **FILTERS)[0]
    parts = run([everything[:20], everything[20:21], [], everything[21:]], **FILTERS)
    dicts = [total(order).to_dict() for order in (parts, parts[::-1], [parts[2], parts[0], parts[3], parts[1]])]
    assert dicts[0] == dicts[1] == dicts[2]
    assert total(parts) == whole


def test_examples_name_the_source_and_the_figure():
    cleaner = Cleaner(Cleaning(max_digit_share=0.3))
    for i in reversed(range(9)):
        cleaner.clean(f"{i}" * 200, f"a.jsonl:{i}")
    shown = cleaner.report.to_dict()["examples"]["max_digit_share"]
    assert [example["source"] for example in shown] == [f"a.jsonl:{i}" for i in range(5)]
    assert shown[0] == {"source": "a.jsonl:0", "start": "0" * 80, "value": 1.0}
    assert cleaner.report.dropped == {"max_digit_share": 9}


# Properties

TRICKY = st.text(
    st.one_of(
        st.sampled_from(
            "ab A~e\u0301\u0316\u093c\u0344क\u200c\u200d\u200b\ufe0f\n\n\n\r\x85\u2028\t\x1b[0m\x07\\]ÃÂ©â€™\xa0\x9d\x81"
            "　 中，１\ue000\U0001f3f4\U000e0061\U000e007f👩\U0001d165¨ﬁ\ud800"
        ),
        st.characters(),
    ),
    max_size=60,
)
HARD = [
    Cleaning(),
    Cleaning(unicode="NFKC", private_use=True, blank_lines=0, repeated_lines=1, consecutive_lines=True),
    Cleaning(unicode="none", line_ends=False, trailing_space=False),
    Cleaning(control_characters=False, mojibake=False, blank_lines=None),
]


@pytest.mark.parametrize("cleaning", HARD)
@given(text=TRICKY)
@settings(max_examples=300, deadline=None)
def test_cleaning_twice_is_cleaning_once(cleaning, text):
    once = Cleaner(cleaning, boilerplate={"a"}).clean(text)
    if once is not None:
        again = Cleaner(cleaning, boilerplate={"a"})
        assert again.clean(once) == once
        assert not again.report.steps


@given(text=TRICKY)
@settings(max_examples=300, deadline=None)
def test_no_control_character_is_ever_returned_and_all_else_is_unicode(text):
    result = clean(text)
    if result is not None:
        assert not [c for c in result if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
        result.encode("utf-8")
        assert unicodedata.is_normalized("NFC", result)


NESTED = "é"
while len(NESTED) < 100_000:
    NESTED = NESTED.encode().decode("latin-1")


@pytest.mark.parametrize("cleaning", [Cleaning(), Cleaning.web()], ids=["default", "web"])
@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "\n" * 50_000,
        " \n" * 200_000,
        (" " * 2000 + "x\n") * 300,
        "x\n" * 300_000,
        "a" + "\u0301\u0316" * 300_000,
        "a" + "\u0344" * 300_000,
        "a" + "\u200d\u0301" * 300_000,
        "\x1b]" * 300_000,
        "\x1b[" + "0" * 500_000,
        "\U0001f3f4\U000e0061" * 200_000,
        "Ã" * 300_000,
        "Ã©" * 300_000,
        "क\u200d" * 300_000,
        NESTED,
    ],
    ids=lambda text: ascii(text[:6]),
)
@pytest.mark.timeout(20)  # each takes under a second; what takes quadratic time, minutes
def test_hostile_text_takes_linear_time(cleaning, text):
    cleaner = Cleaner(cleaning)
    result = cleaner.clean(text)
    assert result is None or len(result) <= len(text)
    assert cleaner.report.documents == cleaner.report.kept + sum(cleaner.report.dropped.values())


def test_nothing_heavy_is_imported():
    code = "import sys, bothways.text.cleaning.cleaning, bothways.text.cleaning.boilerplate\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "ftfy", "pyarrow", "datasets", "sklearn"} & set(loaded)


# Real text


def real(data_dir, name: str) -> list[str]:
    zstandard = pytest.importorskip("zstandard")
    with open(data_dir / "text" / name, "rb") as file:
        stream = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8")
        return [json.loads(line)["text"] for line in stream]


@pytest.mark.parametrize(
    ("name", "most_changed", "language"),
    [
        ("en/100_novels.jsonl.zst", 0.05, "en"),
        ("zh/lctt_tech_articles.jsonl.zst", 0.03, "zh"),
        ("lzh/poetry.jsonl.zst", 0.0, "zh"),
    ],
)
def test_real_text_is_good_and_stays(data_dir, name, most_changed, language):
    texts = real(data_dir, name)
    cleaner = Cleaner(Cleaning(language_share=0.3), language=language)
    for text in texts:
        cleaner.clean(text)
    report = cleaner.report
    assert report.documents == report.kept == len(texts)
    assert report.changed <= most_changed * len(texts)
    assert report.characters_kept >= 0.9999 * report.characters


def test_the_web_settings_keep_real_articles_and_drop_rubbish(data_dir):
    texts = real(data_dir, "zh/lctt_tech_articles.jsonl.zst")[:1000]
    cleaner = Cleaner(Cleaning.web())
    assert sum(cleaner.clean(text) is None for text in texts) <= 5
    rubbish = ["buy now " * 100, "|" * 300, "0123456789 " * 40, "menu\nhome\n" * 60, "x" * 500, "点击这里 " * 90]
    assert [cleaner.clean(text) for text in rubbish] == [None] * len(rubbish)


def test_boilerplate_of_a_real_site_is_found_and_removed(data_dir):
    texts = real(data_dir, "zh/tensorflow_docs.jsonl.zst")
    cleaned = list(filter(None, map(Cleaner(Cleaning()).clean, texts)))
    parts = [cleaned[start::4] for start in range(4)]
    proposed = merge_line_counts(propose_lines(part, capacity=1000) for part in parts)
    counts = merge_line_counts(count_lines(part, proposed) for part in parts)
    boilerplate = boilerplate_lines(counts, 100)
    assert boilerplate == {"在 Google Colab 中运行", "在 GitHub 上查看源代码", "在 Github 上查看源代码"}
    cleaner = Cleaner(Cleaning(), boilerplate=boilerplate)
    kept = "\n".join(filter(None, map(cleaner.clean, texts)))
    assert not boilerplate & set(map(str.strip, kept.split("\n")))
    assert cleaner.report.steps["boilerplate_documents"].lines >= sum(counts.counts[line] for line in boilerplate)
