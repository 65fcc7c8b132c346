"""EleutherAI's lm-evaluation-harness: a GPT or a hybrid says how likely a text is, and what comes after it.

The harness knows the models whose classes have been imported, and looks for no others. In Python, import this module::

    lm_eval.simple_evaluate(model="bothways", model_args={"pretrained": "gpt"}, tasks=["blimp"])

and on the command line start the harness, with all of its own options, from here::

    python -m bothways.harnesses.lm_eval --model bothways --model_args pretrained=gpt --tasks blimp
"""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from bothways.errors import BothwaysError, UserError, unknown
from bothways.harnesses.opening import missing, open_model
from bothways.inference.generate import Ended, generate
from bothways.inference.sampling import Sampling
from bothways.inference.score import score_continuations
from bothways.progress import display
from bothways.tasks.task import tokenizer_of
from bothways.text.tokenizing.tokenizer import Tokenizer
from bothways.training.machine import resolve_precision

try:
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ModuleNotFoundError as error:
    if __name__ == "__main__":
        sys.exit(f"Error: {missing('lm_eval', 'lm-eval')}")
    raise missing("lm_eval", "lm-eval") from error

NAME = "bothways"  # in the harness's list of models
BATCH_TOKENS = 8192  # read at once, where no batch size is given
_UNSAID = -1  # tokens to write, where a task does not say how many
_SAMPLING = ("repetition_penalty", "temperature", "top_k", "top_p")
_OPTIONS = ("do_sample", "max_gen_toks", "num_beams", "until", *_SAMPLING)

Pair = tuple[list[int], list[int]]
"""Token ids of a context and of what follows it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How a text is to be written.

    Attributes:
        until: what ends it.
        max_gen_toks: the most tokens of it; None: as many as the model's default.
        sampling: how tokens are chosen.
    """

    until: tuple[str, ...]
    max_gen_toks: int | None
    sampling: Sampling


class BothwaysLM(TemplateLM):
    """A model of ours as the harness asks it.

    A text begins with the start token where the tokenizer's own frame has one, as our models were trained, and an empty
    context is the start token alone, or the end token where there is none. Special tokens that a text names are read
    letter by letter. What is too long loses its beginning, the start token with it, as the harness wants it.

    Where a token would span the end of the context, which Chinese often has, the two texts are cut into tokens apart. The
    harness's own models lose what the token holds of the continuation.
    """

    def __init__(
        self,
        pretrained: str,
        *,
        revision: str | None = None,
        device: str | None = None,
        batch_size: int | str = "auto",
        max_batch_size: int | None = None,
        max_length: int | None = None,
        max_gen_toks: int | None = None,
        add_bos_token: bool | None = None,
        precision: Literal["auto", "bf16", "fp32"] = "auto",
        seed: int = 0,
        verify: bool = True,
        **others: object,
    ) -> None:
        """Open a model.

        Args:
            pretrained: a run, a folder or a hub id.
            revision: branch, tag or commit; on the Hub only.
            device: as torch names it; None: the best there is.
            batch_size: sequences of full length that are read at once; ``"auto"``: 8,192 tokens.
            max_batch_size: the most of them with ``"auto"``.
            max_length: tokens that are read at most; None: as many as the model can.
            max_gen_toks: tokens written at most where a task does not say it; None: 256, or half of ``max_length``.
            add_bos_token: whether texts begin with the start token; None: as the tokenizer frames them.
            precision: ``"auto"``: bfloat16 where the device multiplies it in hardware, as other predictions.
            seed: of what is drawn where a task samples.
            verify: compare the model's files with their hashes.
            others: none are known.
        Raises:
            UserError: an unknown argument, one out of range, or a model that does not write.
        """
        super().__init__()
        if others:
            raise unknown(
                "model argument", next(iter(others)), ("pretrained", *(BothwaysLM.__init__.__kwdefaults__ or ()))
            )
        self._loaded = open_model(str(pretrained), revision=revision, device=device, attention="causal", verify=verify)
        config = self._loaded.model.config
        if config.attention == "bidirectional":
            raise UserError(
                "lm-evaluation-harness asks what comes next, which a BERT cannot say; take a GPT or a hybrid, or measure a "
                "BERT with bothways evaluate or mteb"
            )
        self._text = tokenizer_of(self._loaded)
        self._device = self._loaded.model.device
        self._precision = resolve_precision(precision, self._device)
        self._seed = seed
        self.max_length = _checked_length(max_length, config.max_position_embeddings)
        self.max_gen_toks = min(256, self.max_length // 2) if max_gen_toks is None else int(max_gen_toks)
        self._batch_tokens = _batch_tokens(batch_size, max_batch_size, self.max_length)
        framed = self._text.backend.encode("").ids
        self._begins = framed[:1] == [self.prefix_token_id] if add_bos_token is None else bool(add_bos_token)

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self._special("eos", "bos")

    @property
    def prefix_token_id(self) -> int:
        """The token that an empty context is."""
        return self._special("bos", "eos")

    def _special(self, first: str, second: str) -> int:
        known = self._text.special_ids
        if first not in known and second not in known:
            raise UserError(
                f"the model's tokenizer has neither a bos nor an eos token to begin with; it has {', '.join(known)}"
            )
        return known.get(first, known.get(second, 0))

    @property
    def tokenizer_name(self) -> str:
        """Where the tokenizer lies."""
        return str(self._loaded.folder)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:  # noqa: ARG002
        """Refuse: our models know no chats."""
        raise UserError("a model of bothways has no chat template; leave apply_chat_template out")

    def get_model_info(self) -> dict[str, Any]:
        """Return what the harness's results say of the model."""
        return {
            "model_num_parameters": sum(each.numel() for each in self._loaded.model.parameters()),
            "model_dtype": self._precision,
            "model_max_length": self.max_length,
        }

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
        """Return the token ids of a text, after the start token if ``add_special_tokens`` or, where None, the model says so."""
        begins = self._begins if add_special_tokens is None else add_special_tokens
        return [*([self.prefix_token_id] if begins else []), *self._text.encode(string)]

    def _encode_pair(self, context: str, continuation: str) -> Pair:
        """Return a context and what follows it; spaces between them go to what follows, as words have theirs in front."""
        kept = context.rstrip()
        continuation = context[len(kept) :] + continuation
        before, whole = self.tok_encode(kept), self.tok_encode(kept + continuation)
        whole_words = whole[: len(before)] == before and len(whole) > len(before)
        after = whole[len(before) :] if whole_words else self.tok_encode(continuation, add_special_tokens=False)
        return before or [self.prefix_token_id], after

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:  # noqa: ARG002
        """Return for each context and continuation log p in nats, and whether greedy choice would have written the same."""
        return self._score([self._encode_pair(*request.args) for request in requests])

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: object) -> list[tuple[float, bool]]:
        """The same for token ids: ((context, continuation), ids, ids) each."""
        return self._score([(before, after) for _, before, after in requests])

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:  # noqa: ARG002
        """Return log p of whole texts, in nats: each token is asked for once, in windows as the harness makes them.

        The start token is read before the first one, and never asked for.
        """
        windows = [self._windows(request.args[0]) for request in requests]
        scores = iter(self._score(list(chain.from_iterable(windows))))
        return [sum(next(scores)[0] for _ in each) for each in windows]

    def _windows(self, text: str) -> list[Pair]:
        ids = self.tok_encode(text, add_special_tokens=False)
        found = get_rolling_token_windows(
            token_list=ids, prefix_token=self.prefix_token_id, max_seq_len=self.max_length, context_len=1
        )
        return [make_disjoint_window(window) for window in found]

    def _score(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        """Return log p of what follows, and whether it is the likeliest; nothing at all is certain."""
        asked = [number for number, (_, after) in enumerate(pairs) if after]
        cut = [self._cut(*pairs[number]) for number in asked]
        shortened = sum(len(before) < len(pairs[number][0]) for number, (before, _) in zip(asked, cut, strict=True))
        _warn_of_cuts(shortened, len(pairs))
        scored = score_continuations(
            self._loaded.model,
            [before for before, _ in cut],
            [after for _, after in cut],
            batch_tokens=self._batch_tokens,
            precision=self._precision,
        )
        results = [(0.0, True)] * len(pairs)
        for number, each in zip(asked, scored, strict=True):
            results[number] = (float(each.log_likelihoods.sum()), each.greedy)
        return results

    def _cut(self, before: list[int], after: list[int]) -> Pair:
        """Return a context without the beginning that the model has no room for; the last token is not read."""
        if len(after) > self.max_length:
            raise UserError(
                f"a continuation has {len(after)} tokens, and the model reads at most {self.max_length}; "
                "take another task or a model that reads more"
            )
        return before[-(self.max_length + 1 - len(after)) :], after

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        """Return what follows each context, up to what its options say."""
        groups: dict[Writing, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(writing(request.args[1]), []).append(number)
        texts: dict[int, str] = {}
        for how, numbers in groups.items():
            written = self._write([requests[number].args[0] for number in numbers], how)
            texts |= dict(zip(numbers, written, strict=True))
        return [texts[number] for number in range(len(requests))]

    def _write(self, contexts: Sequence[str], how: Writing) -> list[str]:
        most = self.max_gen_toks if how.max_gen_toks is None else how.max_gen_toks
        room = self.max_length - most
        if room < 1:
            raise UserError(
                f"{most} tokens shall be written by a model that reads {self.max_length}, which leaves no room for a context; "
                f"pass --gen_kwargs max_gen_toks={self.max_length // 2}"
            )
        prompts = [self.tok_encode(context) or [self.prefix_token_id] for context in contexts]
        _warn_of_cuts(sum(len(prompt) > room for prompt in prompts), len(prompts))
        end = self.eot_token_id
        until = handle_stop_sequences(list(how.until), eos=self._text.backend.id_to_token(end))
        written = generate(
            self._loaded.model,
            [prompt[-room:] for prompt in prompts],
            max_new_tokens=most,
            sampling=how.sampling,
            stop_ids={end},
            ended=stops_at(until, self._text),
            seed=self._seed,
            batch_tokens=self._batch_tokens,
            precision=self._precision,
        )
        texts = [self._text.decode(each.ids) for each in written]
        return [postprocess_generated_text(text, stop=until, think_end_token=None) for text in texts]


def writing(options: Mapping[str, Any]) -> Writing:
    """Return what a task's ``generation_kwargs`` ask for.

    ``max_new_tokens`` and its like are other names of ``max_gen_toks``; without ``do_sample`` and without a temperature
    above 0 the likeliest token is taken; with ``do_sample`` alone the temperature is 1.

    Raises:
        UserError: an option that we do not have, or one out of range.
    """
    given = normalize_gen_kwargs({name: value for name, value in options.items() if value is not None}, _UNSAID)
    for name in given:
        if name not in _OPTIONS:
            raise unknown("generation option", name, _OPTIONS)
    if given.get("num_beams") not in (None, 1):
        raise UserError(f"num_beams must be 1, not {given['num_beams']!r}: bothways has no beam search")
    chosen = {name: given[name] for name in _SAMPLING if given.get(name) is not None}
    chosen["temperature"] = float(chosen.get("temperature", 1.0)) if given["do_sample"] else 0.0
    if not all(isinstance(text, str) for text in given["until"]):
        raise UserError(f"until must be a text or a list of texts, not {options['until']!r}")
    return Writing(
        until=tuple(text for text in given["until"] if text),
        max_gen_toks=None if given["max_gen_toks"] == _UNSAID else given["max_gen_toks"],
        sampling=Sampling.from_dict(chosen),
    )


def stops_at(until: Sequence[str], tokenizer: Tokenizer) -> Ended | None:
    """Return what tells that the last tokens of a text hold one of the texts that end it.

    Every token that is seen at all is a byte of text at least. Some more are looked at, since the first of them may be the
    rest of a character, or a word whose space is lost.
    """
    if not until:
        return None
    reach = max(len(text.encode()) for text in until) + 4

    def ended(ids: Sequence[int]) -> bool:
        text = tokenizer.decode(ids[-reach:])
        return any(end in text for end in until)

    return ended


def _checked_length(asked: int | None, most: int) -> int:
    if asked is not None and not 2 <= int(asked) <= most:
        raise UserError(f"max_length must be from 2 to {most}, which the model reads at most, not {asked}")
    return most if asked is None else int(asked)


def _batch_tokens(batch_size: int | str, most: int | None, max_length: int) -> int:
    """Return how many tokens are read at once."""
    if str(batch_size).startswith("auto"):
        return BATCH_TOKENS if most is None else min(BATCH_TOKENS, int(most) * max_length)
    if not str(batch_size).isdecimal() or int(batch_size) < 1:
        raise UserError(f"batch_size must be auto or a whole number from 1, not {batch_size!r}")
    return int(batch_size) * max_length


def _warn_of_cuts(count: int, of: int) -> None:
    if count:
        logger.warning("contexts that are too long for the model, and lost their beginning: %d of %d", count, of)


register_model(NAME)(BothwaysLM)


def main(evaluate: Callable[[], None] = cli_evaluate) -> int:
    """Run the harness's command line and return an exit code; a user's mistake becomes one sentence on stderr."""
    try:
        with display():
            evaluate()
    except BothwaysError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
