"""The data doctor: what is in a person's text, prepared corpus or task files, and what should be mended before training."""
