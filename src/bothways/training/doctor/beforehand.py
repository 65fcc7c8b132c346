"""What can be said before the first step: of the settings, and of the text."""

from collections.abc import Iterator

from bothways.training.doctor.context import Context
from bothways.training.doctor.finding import Finding, setting

MOST_EPOCHS = (
    10  # of next-token prediction; Muennighoff et al. 2023: beyond some, repeated text teaches next to nothing
)
MOST_MASKED_EPOCHS = 40  # masks are drawn anew; as often as the first BERT saw its text
MOST_UNKNOWN = 0.02  # of the tokens; a tokenizer trained on the text has hardly any
LEAST_VOCABULARY = 1000  # smaller ones are of letters or bytes, and say nothing by short tokens
LEAST_BYTES = 1.6  # a token; a vocabulary of the text's own language has more than 2.5
LEAST_BYTES_OF_UNUSED = 2.5
LEAST_USED = 0.3  # of the vocabulary, in a sample of at least ten tokens an id; one made from the text has 0.75
LEAST_SAMPLED = 10  # tokens an id
LEAST_LEFT = 0.8  # of the learning rate after warm-up; a fall that begins a little too early does no harm


def beforehand(context: Context) -> Iterator[Finding]:
    """Yield what is wrong with a run that has not begun."""
    yield from _tokenizer(context)
    yield from _epochs(context)
    yield from _warmup(context)


def _tokenizer(context: Context) -> Iterator[Finding]:
    language = f" ({context.language})" if context.language else ""
    enough = context.sampled_tokens >= LEAST_SAMPLED * context.vocab_size
    few_ids = enough and context.used_ids < LEAST_USED
    large = context.vocab_size >= LEAST_VOCABULARY
    if context.unknown_share > MOST_UNKNOWN:
        seen = f"{context.unknown_share:.0%} of the training tokens are unknown to the tokenizer"
    elif large and context.bytes_per_token < LEAST_BYTES:
        seen = (
            f"a token holds {context.bytes_per_token:.2f} bytes of the text on average, hardly more than single bytes"
        )
    elif large and few_ids and context.bytes_per_token < LEAST_BYTES_OF_UNUSED:
        seen = (
            f"only {context.used_ids:.0%} of the vocabulary's {context.vocab_size:,} tokens occur in the text, and one holds "
            f"{context.bytes_per_token:.2f} bytes on average"
        )
    else:
        return
    yield Finding(
        "tokenizer_mismatch",
        f"{seen}: the tokenizer was probably made for other text than this{language}. Prepare the text again with a "
        "tokenizer of its own: leave --tokenizer at a kind, such as bpe, or name a model of this language.",
    )


def _epochs(context: Context) -> Iterator[Finding]:
    most = MOST_MASKED_EPOCHS if context.masked else MOST_EPOCHS
    if context.epochs > most:
        left = context.steps - context.begun_step
        fewer = max(1, context.begun_step + int(left * most / context.epochs))
        yield Finding(
            "many_epochs",
            f"the run will see its text {context.epochs:.0f} times, and after about {most} times text that is repeated teaches "
            f"little and is learnt by heart. Give more text, or stop earlier with {setting('training.steps', str(fewer))}.",
        )


def _warmup(context: Context) -> Iterator[Finding]:
    training = context.training
    if training.warmup_share > 0.5:
        yield Finding(
            "warmup_too_long",
            f"the learning rate rises during {training.warmup_share:.0%} of the {training.steps:,} steps, which leaves too "
            f"little of the run at its peak. Try {setting('training.warmup_share', 0.05)}.",
        )
        return
    left = (1 - training.warmup_share) / training.decay_share if training.decay_share else 1.0
    left = training.final_share + (1 - training.final_share) * left
    if training.schedule == "warmup_stable_decay" and left < LEAST_LEFT:
        yield Finding(
            "decay_too_long",
            f"the learning rate rises during {training.warmup_share:.0%} of the steps and falls during the last "
            f"{training.decay_share:.0%}, so that it drops to {left:.0%} at once when it has risen. Try "
            f"{setting('training.decay_share', f'{1 - training.warmup_share:g}')}.",
        )
