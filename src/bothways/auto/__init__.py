"""The front that scikit-learn's users expect: a tokenizer to call, models to fit."""

from bothways.auto.causal_lm import AutoModelForCausalLM
from bothways.auto.classifier import AutoModelForSequenceClassification
from bothways.auto.encoder import AutoModel
from bothways.auto.encodings import Encodings
from bothways.auto.masked_lm import AutoModelForMaskedLM
from bothways.auto.question_answering import AutoModelForQuestionAnswering
from bothways.auto.token_classifier import AutoModelForTokenClassification
from bothways.auto.tokenizer import AutoTokenizer

__all__ = [
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForMaskedLM",
    "AutoModelForQuestionAnswering",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoTokenizer",
    "Encodings",
]
