"""Finding evaluation texts in training texts, and labels that give themselves away."""
