"""The stages alone; what they make together is tested with ``bothways prepare``."""

import numpy as np
import pytest

from bothways.errors import UserError
from bothways.text.preparation import Chunk, Dividing, Preparation, TokenizerTraining, survey_chunk
from bothways.text.reading.documents import Document
from bothways.text.splitting import split_of
from bothways.text.spool import SpoolWriter, read_spool

TEXTS = [f"This is document {number}." for number in range(3000)]
CHUNKS = [Chunk(part=0, number=number, first=1000 * number, documents=1000) for number in range(3)]


@pytest.fixture
def work(tmp_path):
    with SpoolWriter(tmp_path, 0, chunk_bytes=10**9) as spool:
        for number, text in enumerate(TEXTS):
            if number and number % 1000 == 0:
                spool._close()
            spool.add(Document(text=text, source="t"))
    assert spool.counts == [1000, 1000, 1000]
    np.save(tmp_path / "dropped-00000.npy", np.arange(3000) % 10 == 0)
    return tmp_path


def sample(work, **changes):
    shares = {"validation_share": 0.2, "test_share": 0.1}
    dividing = Dividing(work=work, most_characters=100, **{**shares, **changes})
    surveys = [survey_chunk(chunk, dividing=dividing) for chunk in CHUNKS]
    texts = [document.text for survey in surveys if survey.sample for document in read_spool(survey.sample)]
    return texts, surveys


def test_the_splits_are_counted_without_what_is_dropped(work):
    _, surveys = sample(work)
    for number, survey in enumerate(surveys):
        kept = [text for at, text in enumerate(TEXTS[1000 * number : 1000 * (number + 1)]) if at % 10]
        sides = [split_of(text, validation_share=0.2, test_share=0.1) for text in kept]
        assert survey.documents == {side: sides.count(side) for side in ("train", "validation", "test")}


def test_the_whole_sample_is_the_training_text(work):
    texts, _ = sample(work, sample_share=1.0)
    kept = [text for number, text in enumerate(TEXTS) if number % 10]
    assert texts == [text for text in kept if split_of(text, validation_share=0.2, test_share=0.1) == "train"]


def test_a_sample_is_of_the_size_asked_for_and_drawn_by_the_seed(work):
    whole = set(sample(work, sample_share=1.0)[0])
    drawn = [sample(work, sample_share=0.3, seed=seed)[0] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    for texts in drawn:
        assert set(texts) < whole
        assert len(texts) == pytest.approx(0.3 * len(whole), abs=4.5 * (0.21 * len(whole)) ** 0.5)
    both = len(set(drawn[0]) & set(drawn[2]))
    assert both == pytest.approx(0.09 * len(whole), abs=4.5 * (0.09 * 0.91 * len(whole)) ** 0.5)


def test_no_sample_leaves_no_file(work):
    texts, surveys = sample(work)
    assert texts == []
    assert [survey.sample for survey in surveys] == [None] * 3


@pytest.mark.parametrize("values", [{"part_bytes": 0}, {"seed": -1}, {"seed": 2**32}])
def test_senseless_settings_are_refused(values):
    with pytest.raises(UserError, match=next(iter(values))):
        Preparation(**values)


@pytest.mark.parametrize("name", ["reserved", "sample_bytes"])
def test_senseless_settings_of_the_tokenizer_are_refused(name):
    with pytest.raises(UserError, match=rf"tokenizer.{name} must be 0 or more, not -1"):
        TokenizerTraining(**{name: -1})
