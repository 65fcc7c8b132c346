"""bothways: pretrain, fine-tune, evaluate and export GPT and BERT language models from your own text.

Everything public is here and is imported when it is first asked for, so ``import bothways`` takes no time and no torch.
"""

from typing import Any

from bothways import discover

__version__ = "0.1.0"

# Public name to the module, below the package, that defines it under the same name.
_HOMES = {
    "AutoModel": "auto.encoder",
    "AutoModelForCausalLM": "auto.causal_lm",
    "AutoModelForMaskedLM": "auto.masked_lm",
    "AutoModelForQuestionAnswering": "auto.question_answering",
    "AutoModelForSequenceClassification": "auto.classifier",
    "AutoModelForTokenClassification": "auto.token_classifier",
    "AutoTokenizer": "auto.tokenizer",
    "BothwaysError": "errors",
    "Tokenizer": "text.tokenizing.tokenizer",
    "UserError": "errors",
    "compare": "verbs.compare",
    "convert_pickle": "verbs.convert_pickle",
    "demo": "verbs.demo",
    "display": "progress",
    "evaluate": "verbs.evaluate",
    "export": "verbs.export",
    "finetune": "verbs.finetune",
    "generate": "verbs.generate",
    "inspect": "verbs.inspect",
    "predict": "verbs.evaluate",
    "prepare": "verbs.prepare",
    "plan": "verbs.plan",
    "pretrain": "verbs.pretrain",
    "push": "verbs.push",
    "recipe": "recipes.recipe",
    "recipe_names": "recipes.recipe",
    "runs": "verbs.runs",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bothways' has no attribute {name!r}")
    value = getattr(discover.module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
