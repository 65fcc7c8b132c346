"""The engine: one loop for pretraining and fine-tuning, and all that it needs."""
