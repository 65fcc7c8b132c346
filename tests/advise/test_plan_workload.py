from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bothways.advise.workload import muon_flops, share_predicted, workload_of
from bothways.experiment import Experiment, ObjectiveConfig, make_batches
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.objectives.causal_lm import CausalLM
from bothways.objectives.masked_lm import MaskedLM
from bothways.training.config import OptimizerConfig, TrainingConfig
from bothways.training.optimizer import make_optimizers

CAUSAL = CausalLM(bos_id=1, eos_id=2)
MASKED = MaskedLM(cls_id=1, sep_id=2, mask_id=3, vocab_size=40, special_ids=(0, 1, 2, 3), mask_share=0.25, length=64)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def corpus(make_corpus):
    return make_corpus(40, 120, sentence=12, num_bytes=300)


@pytest.fixture
def experiment():
    model = TransformerConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=24,
    )
    training = TrainingConfig(batch_tokens=1000, micro_batch_tokens=300, row_length=64, precision="fp32")
    return Experiment(model=model, training=training)


def bidirectional(experiment):
    return replace(
        experiment,
        model=replace(experiment.model, attention="bidirectional"),
        objective=ObjectiveConfig(name="masked_lm", mask_share=0.25, sequence_length=64),
    )


def test_a_step_has_whole_rows_and_its_passes_too(experiment):
    workload = workload_of(experiment, CAUSAL, 1.0)
    assert (workload.tokens, workload.micro_tokens) == (15 * 64, 4 * 64)
    large = replace(experiment, training=replace(experiment.training, micro_batch_tokens=5000))
    assert workload_of(large, CAUSAL, 1.0).micro_tokens == 15 * 64  # no pass is larger than its step


def test_weights_are_counted_without_being_made(experiment):
    workload = workload_of(experiment, CAUSAL, 1.0)
    model = Model(experiment.model, CAUSAL.heads)
    assert workload.parameters == model.num_parameters()
    matrices = [weight for name, weight in model.named_parameters() if ".layers." in name and weight.dim() == 2]
    assert workload.matrix_weights == sum(weight.numel() for weight in matrices)


def test_all_tokens_of_a_gpt_and_the_masked_ones_of_a_bert_are_predicted(experiment, corpus):
    assert share_predicted(experiment, CAUSAL, corpus) == 1.0
    assert share_predicted(bidirectional(experiment), MASKED, corpus) == pytest.approx(0.25, abs=0.06)
    falling = replace(MASKED, mask_share=0.6, final_mask_share=0.2)
    assert share_predicted(bidirectional(experiment), falling, corpus) == pytest.approx(0.4, abs=0.06)


def test_the_operations_of_muon_are_those_that_it_does(experiment):
    model = Model(experiment.model, CAUSAL.heads)
    for optimizer_config in (OptimizerConfig(), OptimizerConfig(iterations=2)):
        chosen = replace(experiment, optimizer=optimizer_config)
        muon = make_optimizers(model, optimizer_config)[0]
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        with FlopCounterMode(display=False) as counter:
            muon.step()
        assert muon_flops(chosen) == counter.get_total_flops()
        assert workload_of(chosen, CAUSAL, 1.0).optimizer_flops == muon_flops(chosen)
    adamw = replace(experiment, optimizer=OptimizerConfig(name="adamw"))
    assert workload_of(adamw, CAUSAL, 1.0).optimizer_flops == 0


def test_the_operations_of_a_step_are_those_that_it_does(experiment, corpus):
    model = Model(experiment.model, CAUSAL.heads)
    micro_batches = next(make_batches(experiment, CAUSAL, corpus))
    # In bfloat16, since the counter does not know the fused attention that float32 takes.
    with FlopCounterMode(display=False) as counter, torch.autocast("cpu", dtype=torch.bfloat16):
        for batch in micro_batches:
            CAUSAL.loss(model, batch)["causal_lm"].sum.backward()
    assert workload_of(experiment, CAUSAL, 1.0).model_flops == pytest.approx(counter.get_total_flops(), rel=0.15)


def test_muon_moves_less_memory_than_adamw(experiment):
    adamw = replace(experiment, optimizer=OptimizerConfig(name="adamw"))
    by_muon, by_adamw = (workload_of(each, CAUSAL, 1.0) for each in (experiment, adamw))
    assert by_adamw.optimizer_bytes == 28 * by_adamw.parameters
    assert by_adamw.optimizer_bytes - by_muon.optimizer_bytes == 8 * by_muon.matrix_weights
