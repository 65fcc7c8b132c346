"""Models of every kind that can be exported, small and untrained, with weights that matter."""

import torch

from bothways.checkpoints.checkpoint import save_checkpoint
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model

BERT = {
    "attention": "bidirectional",
    "position": "learned",
    "norm": "layer",
    "norm_position": "post",
    "norm_eps": 1e-12,
    "activation": "gelu",
    "bias": True,
    "type_vocab_size": 2,
    "head_transform": True,
    "pooling": "first",
    "pooler": "tanh",
}
OURS = {"attention": "bidirectional", "pooling": "mean", "pooler": "gelu"}
MODELS = {
    "GPT": ({}, {"language_model": 0}),
    "GPT, classes": ({}, {"classification": 3}),
    "GPT, tokens": ({}, {"token_classification": 3}),
    "our BERT": (OURS, {"language_model": 0}),
    "our BERT, pairs": (OURS, {"language_model": 0, "next_sentence": 2}),
    "our BERT, classes": (OURS, {"classification": 3}),
    "BERT": (BERT, {"language_model": 0, "next_sentence": 2}),
    "BERT, next sentences": (BERT, {"next_sentence": 2}),
    "BERT, classes": (BERT, {"classification": 3}),
    "BERT, answers": (BERT, {"span": 2}),
    "BERT, tokens": (BERT, {"token_classification": 5}),
    "RoBERTa, tokens": ({**BERT, "position_offset": 2, "type_vocab_size": 1}, {"token_classification": 5}),
    "embeddings": (OURS, {"embedding": 0}),
}


def make(folder, tokenizer, settings, heads):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = TransformerConfig(
        vocab_size=len(tokenizer), **sizes, max_position_embeddings=64, initializer_range=0.2, **settings
    )
    labels = [f"class {number}" for number in range(heads.get("classification", heads.get("token_classification", 0)))]
    save_checkpoint(folder, Model(config, heads), tokenizer=tokenizer, labels=labels or None)
    return folder
