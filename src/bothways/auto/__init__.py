"""The front that scikit-learn's users expect: a tokenizer to call, a classifier to fit."""

from bothways.auto.classifier import AutoModelForSequenceClassification
from bothways.auto.encodings import Encodings
from bothways.auto.tokenizer import AutoTokenizer

__all__ = ["AutoModelForSequenceClassification", "AutoTokenizer", "Encodings"]
