import random

import pytest
import torch

SYLLABLES = ("ba", "ko", "mi", "ter", "lun", "sa", "dor", "vi", "pel", "gra", "ne", "stu", "rik", "fo", "hal", "ze")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def make_words(rng, count):
    return ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(count)]


def make_paragraph(rng, common, own):
    """Return eight sentences in which every third word tells the topic."""
    sentences = []
    for _ in range(8):
        words = [rng.choice(own if at % 3 == 1 else common) for at in range(rng.randint(6, 10))]
        sentences.append(" ".join(words).capitalize() + ".")
    return " ".join(sentences)


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """Return a folder of two folders of texts in an invented language, 300 kB in all, each folder with words of its own."""
    rng = random.Random(0)
    folder = tmp_path_factory.mktemp("corpus") / "texts"
    common = make_words(rng, 120)
    for topic in ("sea", "land"):
        own = make_words(rng, 40)
        (folder / topic).mkdir(parents=True)
        for number in range(130):
            paragraphs = [make_paragraph(rng, common, own) for _ in range(3)]
            (folder / topic / f"{number:03}.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    return folder
