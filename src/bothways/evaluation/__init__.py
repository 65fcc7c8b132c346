"""How good a model is, beside what needs no learning, and the pages that tell it."""
