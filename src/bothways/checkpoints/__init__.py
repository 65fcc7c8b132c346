"""Models on disk: ours, and those of the Hugging Face families."""
