"""The pace of pretraining: it goes with the weights, and fine-tuning keeps to it."""

import json

import pytest

from bothways.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bothways.errors import UserError
from bothways.finetuning import Finetuning
from bothways.model.pace import Pace

PACE = Pace(optimizer="muon", learning_rate=6e-3, embedding_scale=16.0)


@pytest.mark.parametrize("pace", [PACE, None])
def test_it_is_saved_with_the_weights(tmp_path, make_model, pace):
    model = make_model({"language_model": 0})
    model.pace = pace
    save_checkpoint(tmp_path, model)
    assert load_checkpoint(tmp_path).model.pace == pace


@pytest.mark.parametrize(
    ("pace", "message"),
    [
        (None, "bothways.pace must be a JSON object"),
        ("muon", "bothways.pace must be a JSON object"),
        (
            {"optimizer": "muon"},
            "bothways.pace.learning_rate, config.json: bothways.pace.embedding_scale must be given",
        ),
        ({**PACE.to_dict(), "optimizer": "sgd"}, "bothways.pace.optimizer"),
        ({**PACE.to_dict(), "learning_rate": 0.0}, "pace.learning_rate must be above 0 and finite"),
        ({**PACE.to_dict(), "embedding_scale": float("inf")}, "pace.embedding_scale must be"),
        ({**PACE.to_dict(), "more": 1}, "bothways.pace.more"),
    ],
)
def test_a_file_that_says_nonsense_is_refused(tmp_path, make_model, pace, message):
    save_checkpoint(tmp_path, make_model({"language_model": 0}))
    values = json.loads((tmp_path / "config.json").read_text())
    values["bothways"]["pace"] = pace
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=message):
        load_checkpoint(tmp_path, verify=False)


def test_fine_tuning_keeps_to_it_at_half_the_rate(make_model):
    model = make_model({"classification": 2})
    model.pace = PACE
    suited = Finetuning().suited_to(model)
    assert suited.training.learning_rate == 3e-3
    assert (suited.optimizer.name, suited.optimizer.embedding_scale) == ("muon", 16.0)
    assert suited.optimizer.weight_decay == Finetuning().optimizer.weight_decay


@pytest.mark.parametrize(("width", "rate"), [(768, 5e-5), (384, 1e-4)])
def test_a_model_of_unknown_pace_is_moved_by_adamw_at_a_rate_by_its_width(make_model, width, rate):
    suited = Finetuning().suited_to(make_model({"classification": 2}, hidden_size=width, num_attention_heads=12))
    assert suited.training.learning_rate == pytest.approx(rate)
    assert suited.optimizer.name == "adamw"
