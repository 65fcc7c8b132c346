"""Continuing prompts token by token, many at once: read them (prefill), then one token a row and step (decode).

A batch is as wide as its longest prompt; a shorter one leaves columns of padding between itself and what is generated:

    the quick brown fox │ jumps  over        position_ids of the second row: 0 1 · · │ 2 3
    a    lazy   ·    ·  │ dog    .           where · has a sequence id that nothing sees

A row that ends leaves the batch. Neither the padding nor the rows beside it change what a row becomes.

Shapes: B rows, V tokens of the vocabulary.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from bothways.batch import Batch, collate, row
from bothways.errors import UserError
from bothways.inference.reading import Precision, check_sequences, evaluating, group_by_length, require_head
from bothways.inference.sampling import GREEDY, History, Processor, Sampling, choose, forbid
from bothways.model.cache import Cache
from bothways.model.heads import Model
from bothways.progress import bar

FinishReason = Literal["stop", "length"]
Ended = Callable[[Sequence[int]], bool]
"""Whether a continuation ends with its last token: a certain text has been written, say."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What follows a prompt.

    Attributes:
        ids: the generated tokens, without the prompt and without the token that stopped it.
        finish_reason: ``"stop"``: a stop token came, or ``ended`` said so; ``"length"``: as many tokens as asked for, or the
            context is full.
    """

    ids: list[int]
    finish_reason: FinishReason


def generate(
    model: Model,
    prompts: Sequence[ArrayLike],
    *,
    max_new_tokens: int = 128,
    sampling: Sampling = GREEDY,
    stop_ids: Collection[int] = (),
    ended: Ended | None = None,
    forbidden_ids: Collection[int] = (),
    processors: Sequence[Processor] = (),
    prefix: bool = False,
    seed: int = 0,
    batch_tokens: int = 8192,
    precision: Precision = "fp32",
) -> list[Generated]:
    """Continue each prompt and return the continuations in the order of the prompts.

    What a prompt becomes depends on the seed, on its own tokens and on how often it came before in ``prompts`` (so that
    asking twice gives two different samples), never on the batch it is in.

    Args:
        model: a causal one.
        prompts: token ids.
        max_new_tokens: the most tokens generated for each; fewer where prompt and continuation fill the context.
        sampling: how tokens are chosen; greedy by default.
        stop_ids: tokens that end a text.
        ended: asked after each token whether the continuation so far, prompt left out, shall end with it.
        forbidden_ids: tokens that are never generated.
        processors: what else may change the logits before a token is chosen.
        prefix: prompt tokens see each other fully, as a prefix language model was trained to read them.
        seed: of all draws.
        batch_tokens: about how many tokens, generated ones included, are in the cache at once.
        precision: ``"fp32"`` or ``"bf16"``.
    Raises:
        UserError: the model is bidirectional, an argument is out of range, or a prompt is empty, too long, or no list
            of its token ids.
        NonFiniteError: the model's logits are not numbers.
    """
    if model.config.attention == "bidirectional":
        raise UserError("this model is bidirectional: GPT generates, BERT cannot; choose a causal model")
    require_head(model, "language_model")
    for name, value, least in (("max_new_tokens", max_new_tokens, 1), ("seed", seed, 0)):
        if value < least:
            raise UserError(f"{name} must be at least {least}, not {value}")
    if forbidden_ids:
        processors = [*processors, forbid(forbidden_ids, model.config.vocab_size)]

    def choose_next(logits: Tensor, history: History, generators: Sequence[torch.Generator]) -> Tensor:
        return choose(logits, history, sampling, generators, processors, stop_ids)

    checked = check_sequences(model, prompts, "prompts")
    seeds = _seeds(checked, seed)
    most_new = min(max_new_tokens, model.config.max_position_embeddings)
    groups = group_by_length([len(prompt) + most_new for prompt in checked], batch_tokens)
    dtype = torch.bfloat16 if precision == "bf16" else model.transformer.embed_tokens.weight.dtype
    results: dict[int, Generated] = {}
    with evaluating(model, precision), bar("generating", len(checked)) as progress:
        for group in groups:
            texts = [_begin(model, checked[index], max_new_tokens, seeds[index]) for index in group]
            _continue(model, texts, choose_next, frozenset(stop_ids), ended, prefix, dtype)
            results |= {index: text.result() for index, text in zip(group, texts, strict=True)}
            progress.advance(len(group))
    return [results[index] for index in range(len(checked))]


def prefill(model: Model, cache: Cache, prompts: Sequence[Sequence[int]], *, prefix: bool = False) -> Tensor:
    """Read whole prompts into an empty cache and return the logits [B, V] of what follows each."""
    rows = [row(prompt, "causal", prefix=len(prompt) if prefix else 0) for prompt in prompts]
    batch = collate(rows).to(model.device)
    starts = torch.arange(len(rows)) * batch.input_ids.shape[1]
    last = starts + torch.tensor([len(part) - 1 for part in rows])
    return model.read("language_model", model(batch, cache), batch, last.to(model.device))


def decode_one_token(model: Model, cache: Cache, input_ids: Tensor, position_ids: Tensor) -> Tensor:
    """Read one more token of each row and return the logits [B, V] of what follows it.

    Args:
        model: a causal one.
        cache: what the rows have read so far.
        input_ids: [B], the tokens.
        position_ids: [B], where in its own text each of them stands.
    """
    batch = Batch(
        input_ids=input_ids[:, None],
        position_ids=position_ids[:, None],
        sequence_ids=torch.zeros_like(input_ids)[:, None],
        reach=torch.full_like(input_ids, cache.length)[:, None],
    )
    index = torch.arange(len(input_ids), device=input_ids.device)
    return model.read("language_model", model(batch, cache), batch, index)


@dataclass(kw_only=True)
class _Text:
    """A prompt and what it has become so far."""

    ids: list[int]
    prompt_length: int
    most: int  # tokens, prompt included, at which it ends
    generator: torch.Generator
    finish_reason: FinishReason = "length"

    def take(self, token: int, stop_ids: Collection[int], ended: Ended | None) -> bool:
        """Add a token and return whether the text goes on after it."""
        if token in stop_ids:
            self.finish_reason = "stop"
            return False
        self.ids.append(token)
        if ended is not None and ended(self.ids[self.prompt_length :]):
            self.finish_reason = "stop"
            return False
        return len(self.ids) < self.most

    def result(self) -> Generated:
        return Generated(ids=self.ids[self.prompt_length :], finish_reason=self.finish_reason)


def _seeds(prompts: Sequence[NDArray[np.int64]], seed: int) -> list[int]:
    """Return a seed for each prompt, mixed from ``seed``, its tokens and how often it came before."""
    seeds = []
    repeats: Counter[bytes] = Counter()
    for prompt in prompts:
        key = prompt.tobytes()
        (mixed,) = np.random.SeedSequence([seed, repeats[key], *prompt.tolist()]).generate_state(1, np.uint64)
        seeds.append(int(mixed) >> 1)  # 63 bits: all that a generator takes
        repeats[key] += 1
    return seeds


def _begin(model: Model, prompt: NDArray[np.int64], max_new_tokens: int, seed: int) -> _Text:
    return _Text(
        ids=prompt.tolist(),
        prompt_length=len(prompt),
        most=min(len(prompt) + max_new_tokens, model.config.max_position_embeddings),
        generator=torch.Generator(model.device).manual_seed(seed),
    )


def _continue(
    model: Model,
    texts: Sequence[_Text],
    choose_next: Callable[[Tensor, History, Sequence[torch.Generator]], Tensor],
    stop_ids: Collection[int],
    ended: Ended | None,
    prefix: bool,
    dtype: torch.dtype,
) -> None:
    """Let every text of one batch grow to its end."""
    going = [text for text in texts if len(text.ids) < text.most]
    if not going:
        return
    capacity = max(text.prompt_length for text in going) + max(text.most - text.prompt_length for text in going) - 1
    cache = model.new_cache(len(going), capacity, dtype)
    logits = prefill(model, cache, [text.ids for text in going], prefix=prefix)
    while True:
        tokens = choose_next(logits, [text.ids for text in going], [text.generator for text in going])
        goes_on = [text.take(token, stop_ids, ended) for text, token in zip(going, tokens.tolist(), strict=True)]
        if not any(goes_on):
            return
        if not all(goes_on):
            kept = torch.tensor(goes_on, device=model.device).nonzero().squeeze(1)
            cache.keep(kept)
            tokens, going = tokens[kept], list(compress(going, goes_on))
        positions = torch.tensor([len(text.ids) - 1 for text in going], device=model.device)
        logits = decode_one_token(model, cache, tokens, positions)
