import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bothways.batch import collate
from bothways.model.config import TransformerConfig
from bothways.model.flops import training_flops, trunk_matrix_weights
from bothways.model.heads import Model
from bothways.objectives.causal_lm import CausalLM


def config(**settings):
    tiny = {
        "vocab_size": 50,
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 40,
    }
    return TransformerConfig(**{**tiny, **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_key_value_heads": 2},
        {"head_size": 8},
        {"activation": "gelu", "bias": True, "norm": "layer", "position": "learned"},
    ],
)
def test_the_weights_are_those_of_the_layers(settings):
    model = Model(config(**settings), {})
    matrices = [p for name, p in model.named_parameters() if ".layers." in name and p.dim() == 2]
    assert trunk_matrix_weights(config(**settings)) == sum(p.numel() for p in matrices)


@pytest.mark.parametrize("settings", [{}, {"head_transform": True, "norm": "layer"}, {"num_key_value_heads": 2}])
def test_it_counts_what_torch_counts(settings):
    objective = CausalLM(bos_id=1, eos_id=2)
    model = Model(config(**settings), objective.heads).bfloat16()  # torch does not count what its fused attention does
    rows = [objective.sequence(torch.arange(3, 34).numpy()) for _ in range(2)]
    batch = collate(rows)
    with FlopCounterMode(display=False) as counter:
        sum(loss.sum for loss in objective.loss(model, batch).values()).backward()
    expected = training_flops(config(**settings), tokens=64, predicted=64, context=32)
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.02)


def test_only_predicted_tokens_pay_for_the_vocabulary():
    tokens = {"tokens": 1000, "context": 128}
    few, many = (training_flops(config(), predicted=predicted, **tokens) for predicted in (150, 1000))
    assert many - few == 6 * 850 * 24 * 50
