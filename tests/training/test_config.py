import math

import pytest

from bothways.errors import UserError
from bothways.training.config import MOST_TOKENS, OptimizerConfig, TrainingConfig


@pytest.mark.parametrize("kind", [TrainingConfig, OptimizerConfig])
def test_defaults_make_sense_and_survive_a_file(kind, tmp_path):
    config = kind()
    config.save(tmp_path / "config.json")
    assert kind.load(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", -1),
        ("steps", 10**9 + 1),
        ("evaluate_every", -1),
        ("save_every", -1),
        ("batch_tokens", 0),
        ("batch_tokens", MOST_TOKENS + 1),
        ("micro_batch_tokens", 0),
        ("row_length", 0),
        ("keep", 0),
        ("learning_rate", 0.0),
        ("learning_rate", -1e-3),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("gradient_clip", 0.0),
        ("gradient_clip", math.inf),
        ("warmup_share", -0.1),
        ("warmup_share", 1.1),
        ("decay_share", math.nan),
        ("final_share", 2.0),
    ],
)
def test_training_settings_that_make_no_sense_are_refused_by_name(name, value):
    with pytest.raises(UserError, match=rf"^training\.{name} must be .*, not {value}$"):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beta1", 1.0),
        ("beta2", -0.1),
        ("momentum", 1.5),
        ("momentum", math.nan),
        ("weight_decay", -0.1),
        ("eps", -1e-9),
        ("embedding_scale", -1.0),
        ("weight_decay", math.nan),
        ("eps", math.inf),
    ],
)
def test_optimizer_settings_that_make_no_sense_are_refused_by_name(name, value):
    with pytest.raises(UserError, match=rf"^optimizer\.{name} must be .*, not {value}$"):
        OptimizerConfig(**{name: value})


@pytest.mark.parametrize(
    "settings",
    [{"steps": 0}, {"steps": 10**9}, {"warmup_share": 0.0}, {"warmup_share": 1.0}, {"batch_tokens": MOST_TOKENS}],
)
def test_settings_at_the_edge_are_taken(settings):
    TrainingConfig(**settings)
