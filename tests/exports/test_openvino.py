"""A graph says in OpenVINO what the model says here."""

import pytest
from small_models import MODELS, make

from bothways.verbs.export import export

pytestmark = pytest.mark.engines


@pytest.mark.parametrize(("precision", "apart"), [("fp32", 1e-4), ("fp16", 0.02)])
@pytest.mark.parametrize("name", ["GPT", "our BERT, classes", "embeddings"])
def test_the_other_program_says_the_same(tmp_path, tokenizer, name, precision, apart):
    settings, heads = MODELS[name]
    folder = make(tmp_path / "model", tokenizer, settings, heads)
    differences = export(folder, format="openvino", out=tmp_path / "out", precision=precision).differences
    assert {each.head for each in differences} == set(heads)
    assert all(each.relative < apart for each in differences)
    assert {file.name for file in (tmp_path / "out").iterdir()} >= {"openvino_model.xml", "openvino_model.bin"}
