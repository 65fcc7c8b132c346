"""The one Transformer and the heads that read it."""
