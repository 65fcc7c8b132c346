"""Hugging Face's format, opened by the Auto classes of ``transformers`` without any code of ours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bothways.checkpoints.checkpoint import Loaded, save_checkpoint
from bothways.checkpoints.family import family_for
from bothways.checkpoints.files import read_object
from bothways.errors import UserError
from bothways.exports.export import Answers, one_by_one

PRECISIONS = {"fp32": 1e-4}
NEEDS = {"transformers": "transformers"}


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

    classes = {
        "ForSequenceClassification": (transformers.AutoModelForSequenceClassification, "classification"),
        "ForTokenClassification": (transformers.AutoModelForTokenClassification, "token_classification"),
        "ForQuestionAnswering": (transformers.AutoModelForQuestionAnswering, "span"),
        "ForPreTraining": (transformers.AutoModelForPreTraining, "language_model"),
        "ForNextSentencePrediction": (transformers.AutoModelForNextSentencePrediction, "next_sentence"),
        "ForCausalLM": (transformers.AutoModelForCausalLM, "language_model"),
        "LMHeadModel": (transformers.AutoModelForCausalLM, "language_model"),
        "ForMaskedLM": (transformers.AutoModelForMaskedLM, "language_model"),
        "Model": (transformers.AutoModel, "embedding"),
    }
    name = str(read_object(folder / "config.json")["architectures"][0])
    opener, head = next(found for end, found in classes.items() if name.endswith(end))
    model = opener.from_pretrained(folder, trust_remote_code=False)
    assert type(model).__name__ == name, (type(model).__name__, name)

    def ask(sequence: Sequence[int]) -> Mapping[str, Any]:
        with torch.inference_mode():
            outputs = model(input_ids=torch.tensor([sequence]))
        if head == "span":
            return {head: torch.stack((outputs.start_logits, outputs.end_logits), dim=-1)[0].numpy()}
        if head == "embedding":
            mean = outputs.last_hidden_state[0].mean(0)
            return {head: torch.nn.functional.normalize(mean, dim=0).numpy()}
        if "prediction_logits" in outputs:
            pair = outputs.seq_relationship_logits[0].numpy()
            return {head: outputs.prediction_logits[0].numpy(), "next_sentence": pair}
        return {head: outputs.logits[0].numpy()}

    return one_by_one(ask, sequences)
