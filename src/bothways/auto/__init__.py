"""The front that the essay's script and scikit-learn's users expect: a tokenizer to call, a classifier to fit."""
