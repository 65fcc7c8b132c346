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

LOGITS = {
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "token_classification",
    "ForCausalLM": "language_model",
    "LMHeadModel": "language_model",
    "ForMaskedLM": "language_model",
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
    """Ask the class that ``config.json`` names."""
    import transformers

    name = str(read_object(folder / "config.json")["architectures"][0])
    model = getattr(transformers, name).from_pretrained(folder).eval()

    def ask(sequence: Sequence[int]) -> Mapping[str, Any]:
        with torch.inference_mode():
            outputs = model(input_ids=torch.tensor([sequence]))
        if name.endswith("ForQuestionAnswering"):
            return {"span": torch.stack((outputs.start_logits, outputs.end_logits), dim=-1)[0].numpy()}
        if "prediction_logits" in outputs:  # BertForPreTraining
            return {
                "language_model": outputs.prediction_logits[0].numpy(),
                "next_sentence": outputs.seq_relationship_logits[0].numpy(),
            }
        head = next((head for end, head in LOGITS.items() if name.endswith(end)), None)
        if head is None:
            mean = outputs.last_hidden_state[0].mean(0)
            return {"embedding": torch.nn.functional.normalize(mean, dim=0).numpy()}
        return {head: outputs.logits[0].numpy()}

    return one_by_one(ask, sequences)
