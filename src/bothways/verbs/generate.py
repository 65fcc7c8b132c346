"""``bothways generate``: a prompt to a text."""

from collections.abc import Sequence
from pathlib import Path

from bothways.checkpoints.checkpoint import load
from bothways.errors import UserError
from bothways.inference.sampling import Sampling
from bothways.tasks.task import tokenizer_of, write
from bothways.training.machine import default_device


def generate(
    model: str | Path,
    prompts: str | Sequence[str] = "",
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.8,
    top_p: float = 0.95,
    top_k: int = 0,
    repetition_penalty: float = 1.1,
    seed: int = 0,
    verify: bool = True,
) -> list[str]:
    """Continue texts.

    Args:
        model: a GPT: a run, a folder or ``owner/name[@revision]`` on the Hugging Face Hub.
        prompts: one text or several; the empty text asks for a document from its beginning.
        max_new_tokens: the most tokens that are written.
        temperature: 0 takes the likeliest token; over 1 is wild.
        top_p: only the likeliest tokens that together reach this probability.
        top_k: only so many of the likeliest tokens; 0: all.
        repetition_penalty: over 1: words of the text so far become less likely.
        seed: the same seed gives the same text.
        verify: compare the model's files with their hashes.
    Returns:
        Each prompt with its continuation.
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    for text in texts:
        if any("\ud800" <= character <= "\udfff" for character in text):  # so Python reads bytes that are not UTF-8
            raise UserError(f"the prompt {text[:40]!r} is not valid Unicode; give it as UTF-8")
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, repetition_penalty=repetition_penalty)
    loaded = load(model, verify=verify)
    loaded.model.to(default_device())
    tokenizer = tokenizer_of(loaded)
    begin, _ = tokenizer.frame()
    alone = begin or [tokenizer.special_ids[role] for role in ("bos",) if role in tokenizer.special_ids]
    ids = [[*begin, *tokenizer.encode(text)] if text else alone for text in texts]
    written = write(loaded, ids, max_new_tokens=max_new_tokens, sampling=sampling, seed=seed)
    return [text + continuation for text, continuation in zip(texts, written, strict=True)]
