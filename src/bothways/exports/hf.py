"""Hugging Face's format, opened by the Auto classes of ``transformers`` without any code of ours."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bothways.checkpoints.checkpoint import OTHER_CONFIG, Loaded, save_checkpoint
from bothways.checkpoints.family import family_for
from bothways.checkpoints.files import read_object
from bothways.checkpoints.weights import outputs
from bothways.errors import UserError
from bothways.exports.export import Answers, one_by_one
from bothways.model.config import TransformerConfig
from bothways.model.heads import CLASSES

PRECISIONS = {"fp32": 1e-4}
NEEDS = {"transformers": "transformers"}
LIBRARY = "transformers"
# The end of a class's name, to the head of ours that it has; the Auto class that opens it is named alike.
_HEADS = {
    **CLASSES,
    "ForPreTraining": "language_model",
    "ForNextSentencePrediction": "next_sentence",
    "Model": "embedding",
}


def refuse(loaded: Loaded) -> None:
    """Refuse a trunk that no published family computes."""
    family = family_for(loaded.model.config)
    if family.MODEL_TYPE == "bothways":
        raise UserError("no family of transformers computes what this trunk does; train one of our recipes' kind")


def write(loaded: Loaded, folder: Path, precision: str) -> None:  # noqa: ARG001  (there is one)
    """Write config, weights and tokenizer."""
    save_checkpoint(folder / "model", loaded.model, tokenizer=loaded.tokenizer, labels=loaded.labels)
    for file in (folder / "model").iterdir():
        file.rename(folder / file.name)
    (folder / "model").rmdir()
    (folder / "manifest.json").unlink(missing_ok=True)  # one of the whole folder follows


def answers(folder: Path, loaded: Loaded, sequences: Sequence[Sequence[int]]) -> Answers:  # noqa: ARG001
    """Ask what the Auto classes of ``transformers`` make of the folder."""
    import transformers

    openers = (
        transformers.AutoModel,
        transformers.AutoModelForCausalLM,
        transformers.AutoModelForMaskedLM,
        transformers.AutoModelForNextSentencePrediction,
        transformers.AutoModelForPreTraining,
        transformers.AutoModelForQuestionAnswering,
        transformers.AutoModelForSequenceClassification,
        transformers.AutoModelForTokenClassification,
    )
    name = str(read_object(folder / "config.json")["architectures"][0])
    opener, head = _class(name)
    with quiet():
        model = next(each for each in openers if each.__name__ == opener).from_pretrained(
            folder, trust_remote_code=False
        )
    assert type(model).__name__ == name, (type(model).__name__, name)

    def ask(sequence: Sequence[int]) -> Mapping[str, Any]:
        with torch.inference_mode():
            found = model(input_ids=torch.tensor([sequence]))
        if head == "span":
            return {head: torch.stack((found.start_logits, found.end_logits), dim=-1)[0].numpy()}
        if head == "embedding":
            mean = found.last_hidden_state[0].mean(0)
            return {head: torch.nn.functional.normalize(mean, dim=0).numpy()}
        if "prediction_logits" in found:
            pair = found.seq_relationship_logits[0].numpy()
            return {head: found.prediction_logits[0].numpy(), "next_sentence": pair}
        return {head: found.logits[0].numpy()}

    return one_by_one(ask, sequences)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep ``transformers`` from telling, with progress bars, which heads of its own it finds no weights for."""
    import transformers

    logging: Any = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def tokenize(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """Ask the tokenizer that ``transformers`` makes of the folder; names of special tokens in texts are plain letters."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return [list(tokenizer(text, split_special_tokens=True)["input_ids"]) for text in texts]


def usage(loaded: Loaded) -> str:
    """With the Auto class that opens it; a hybrid opens both ways."""
    opener, other = _opener(loaded, loaded.model.config), ""
    text = "" if loaded.tokenizer is None else _ASK
    if loaded.model.config.hybrid:
        second = _opener(loaded, loaded.model.config.read_as("bidirectional"))
        other = (
            f"\n\nThe same weights, reading both ways:\n\n```python\nfrom transformers import AutoConfig, {second}\n\n"
            f'config = AutoConfig.from_pretrained("{OTHER_CONFIG}")\n'
            f'model = {second}.from_pretrained(".", config=config)\n```'
        )
    names = opener if loaded.tokenizer is None else f"{opener}, AutoTokenizer"
    return f'```python\nfrom transformers import {names}\n\nmodel = {opener}.from_pretrained(".")\n{text}```{other}'


_ASK = """tokenizer = AutoTokenizer.from_pretrained(".")
outputs = model(**tokenizer("A text.", return_tensors="pt"))
"""


def _class(name: str) -> tuple[str, str]:
    """Return the Auto class that opens a class of ``transformers``, and the head of ours that it has."""
    end, head = next((end, head) for end, head in _HEADS.items() if name.endswith(end))
    opens = {"LMHeadModel": "AutoModelForCausalLM", "Model": "AutoModel"}
    return opens.get(end, f"AutoModel{end}"), head


def _opener(loaded: Loaded, trunk: TransformerConfig) -> str:
    values = family_for(trunk).write_config(trunk, outputs(loaded.model))
    return _class(str(values["architectures"][0]))[0]
