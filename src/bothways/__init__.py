"""bothways: pretrain, fine-tune, evaluate, explain and serve GPT and BERT language models from your own text."""

__version__ = "0.1.0"
