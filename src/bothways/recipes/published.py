"""The classic models as they were published: GPT-2 small (Radford et al. 2019) and BERT base (Devlin et al. 2018)."""

from bothways.experiment import Experiment, ObjectiveConfig
from bothways.model.config import TransformerConfig
from bothways.training.config import OptimizerConfig, TrainingConfig


def gpt2_small() -> Experiment:
    """124 M parameters, 12 layers of 768, learned positions, norms first."""
    return Experiment(
        model=TransformerConfig(
            vocab_size=50257,
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            intermediate_size=3072,
            max_position_embeddings=1024,
            attention="causal",
            position="learned",
            norm="layer",
            norm_position="pre",
            norm_eps=1e-5,
            activation="gelu_tanh",
            bias=True,
            hidden_dropout=0.1,
            attention_dropout=0.1,
        ),
        objective=ObjectiveConfig(name="causal_lm"),
        training=TrainingConfig(
            row_length=1024,
            batch_tokens=2**19,
            learning_rate=6e-4,
            schedule="cosine",
            warmup_share=0.01,
            final_share=0.1,
        ),
        optimizer=OptimizerConfig(name="adamw", embedding_scale=1.0),
        tokenizer="bpe",
    )


def bert_base() -> Experiment:
    """110 M parameters, 12 layers of 768, norms last, token types, next sentence prediction; the Hub's bert-base-uncased."""
    return Experiment(
        model=TransformerConfig(
            vocab_size=30522,
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            intermediate_size=3072,
            max_position_embeddings=512,
            attention="bidirectional",
            position="learned",
            norm="layer",
            norm_position="post",
            norm_eps=1e-12,
            activation="gelu",
            bias=True,
            type_vocab_size=2,
            head_transform=True,
            pooling="first",
            pooler="tanh",
            hidden_dropout=0.1,
            attention_dropout=0.1,
        ),
        objective=ObjectiveConfig(name="masked_lm", mask_share=0.15, pairs="next_sentence", sequence_length=128),
        training=TrainingConfig(
            row_length=128, batch_tokens=2**15, learning_rate=1e-4, schedule="linear", warmup_share=0.01
        ),
        optimizer=OptimizerConfig(name="adamw", weight_decay=0.01, beta2=0.999, eps=1e-6, embedding_scale=1.0),
        tokenizer="wordpiece",
    )


RECIPES = {"gpt2-small": gpt2_small, "bert-base-uncased": bert_base}
