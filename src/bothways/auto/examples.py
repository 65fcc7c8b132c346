"""What users give a classifier to read, as rows: encodings of any make, or raw texts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bothways import progress
from bothways.auto.encodings import is_flat
from bothways.auto.labels import Label, as_list, is_missing, read_labels
from bothways.auto.tokenizer import AutoTokenizer
from bothways.batch import Row, row
from bothways.errors import UserError
from bothways.inference.reading import check_sequences
from bothways.model.heads import Model

READ = ("input_ids", "attention_mask", "token_type_ids")
# What tokenizers and scripts may add, and no model reads.
LEFT = (
    "special_tokens_mask",
    "offset_mapping",
    "overflow_to_sample_mapping",
    "length",
    "labels",
    "start_positions",
    "end_positions",
)


class Examples(NamedTuple):
    """Rows of one sequence each, and their labels."""

    rows: list[Row]
    labels: list[Label]

    def where(self, chosen: NDArray[np.bool_]) -> "Examples":
        """Return those that a mask [n] chooses."""
        index = np.flatnonzero(chosen).tolist()
        return Examples([self.rows[i] for i in index], [self.labels[i] for i in index])


def read_examples(inputs: Any, labels: Any, tokenizer: AutoTokenizer | None, model: Model) -> Examples:
    """Return inputs and labels, read and of one length; see ``read_rows`` and ``read_labels``."""
    found = read_labels(labels)
    rows = read_rows(inputs, tokenizer, model)
    if len(rows) != len(found):
        raise UserError(f"there are {len(rows)} inputs and {len(found)} labels; each input needs one label")
    return Examples(rows, found)


def read_rows(inputs: Any, tokenizer: AutoTokenizer | None, model: Model) -> list[Row]:
    """Return texts or encodings as rows of one sequence each, padding left out.

    Args:
        inputs: encodings (a mapping with ``input_ids``), a list of single encodings, or texts, or pairs of texts.
        tokenizer: for texts.
        model: that will read the rows.
    Raises:
        UserError: there is nothing, or something that cannot be read; the message says where and why.
    """
    if isinstance(inputs, Mapping):
        return _encoded_rows(inputs, tokenizer, model)
    if hasattr(inputs, "columns") or not isinstance(inputs, Iterable):
        raise UserError("give texts or encodings; of a table, one column: table['text']")
    items = [inputs] if isinstance(inputs, str) else as_list(inputs)
    if not items:
        raise UserError("there is not one example")
    encoded = [item for item in items if isinstance(item, Mapping)]
    if len(encoded) == len(items):
        columns = {name: [_column(item, name) for item in encoded] for name in encoded[0]}
        return _encoded_rows(columns, tokenizer, model)
    return _encoded_rows(encode_texts(items, tokenizer), tokenizer, model)


def read_texts(texts: Any) -> list[str]:
    """Return one text, or many, as a list.

    Raises:
        UserError: there is none, or something else than text.
    """
    if isinstance(texts, Mapping) or hasattr(texts, "columns") or not isinstance(texts, Iterable):
        raise UserError("give texts; of a table, one column: table['text']")
    found = [texts] if isinstance(texts, str) else as_list(texts)
    if not found:
        raise UserError("there is not one text")
    for number, text in enumerate(found):
        if not isinstance(text, str) or not text:
            raise UserError(f"texts[{number}] must be a text, and is {text!r}")
    return found


def encode_texts(items: Sequence[Any], tokenizer: AutoTokenizer | None) -> Mapping[str, Any]:
    """Encode raw texts, or pairs of them, cutting those that the model cannot read whole, and say how many that are."""
    if tokenizer is None:
        raise UserError("this model comes without a tokenizer, so it reads encodings only, and no texts")
    pairs = [_pair(item, number) for number, item in enumerate(items)]
    odd = next((number for number, pair in enumerate(pairs) if len(pair) != len(pairs[0])), None)
    if odd is not None:
        one, other = ("one text", "a pair") if len(pairs[odd]) == 1 else ("a pair of texts", "one")
        raise UserError(f"inputs[{odd}] is {one}, and inputs[0] {other}; give either throughout")
    columns = [list(texts) for texts in zip(*pairs, strict=True)]
    limit = tokenizer.model_max_length
    encodings = tokenizer(*columns)
    too_long = 0 if limit is None else sum(len(ids) > limit for ids in encodings.input_ids)
    if not too_long:
        return encodings
    progress.note(f"{too_long:,} of {len(items):,} texts have more than {limit} tokens and are cut to that")
    return tokenizer(*columns, truncation=True)


def _pair(item: Any, number: int) -> tuple[str, ...]:
    """Return a text, or a pair of texts, as a tuple of one or two."""
    if isinstance(item, str):
        return (item,)
    if isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(text, str) for text in item):
        return tuple(item)
    if is_missing(item):
        raise UserError(f"inputs[{number}] is missing ({item}); leave that example out")
    raise UserError(
        f"inputs[{number}] is no text: {item!r}; give texts, or pairs of texts, or whole encodings with their "
        "attention_mask, as the tokenizer returns them"
    )


def _column(encoding: Mapping[str, Any], name: str) -> Any:
    if name not in encoding:
        raise UserError(f"some of the encodings have the column {name!r}, and some have not")
    return encoding[name]


def _encoded_rows(columns: Mapping[str, Any], tokenizer: AutoTokenizer | None, model: Model) -> list[Row]:
    """Return encodings as rows, without what their mask leaves out."""
    if "input_ids" not in columns:
        raise UserError(f"encodings need the column 'input_ids', and these have {', '.join(map(repr, columns))}")
    odd = [name for name in columns if name not in (*READ, *LEFT)]
    if odd:
        raise UserError(f"the model cannot read the column {odd[0]!r}; it reads {', '.join(READ)}")
    ids, masks, types = (_arrays(columns.get(name)) for name in READ)
    assert ids is not None
    if not ids:
        raise UserError("there is not one example")
    _check_equal(ids, masks, "attention_mask")
    _check_equal(ids, types, "token_type_ids")
    if masks is None:
        _refuse_padding(ids, tokenizer)
        masks = [np.ones_like(part) for part in ids]
    kept = [mask.astype(np.bool_) for mask in masks]
    sequences = [part[keep] for part, keep in zip(ids, kept, strict=True)]
    _check_lengths(sequences, model.config.max_position_embeddings)
    sequences = check_sequences(model, sequences, "inputs")
    segments = None if types is None else [part[keep] for part, keep in zip(types, kept, strict=True)]
    return _rows(sequences, segments, model)


def _arrays(column: Any) -> list[NDArray[Any]] | None:
    """Return a column as one array for each text."""
    if column is None:
        return None
    rows = _array(column) if hasattr(column, "detach") else list(column)
    return [_array(part) for part in ([rows] if is_flat(rows) else rows)]


def _array(values: Any) -> NDArray[Any]:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _check_equal(ids: Sequence[NDArray[Any]], others: Sequence[NDArray[Any]] | None, name: str) -> None:
    if others is None:
        return
    if len(ids) != len(others):
        raise UserError(f"the encodings have {len(ids)} rows of input_ids and {len(others)} of {name}")
    for number, (one, other) in enumerate(zip(ids, others, strict=True)):
        if one.shape != other.shape:
            raise UserError(f"inputs[{number}] has {one.size} input_ids and {other.size} numbers in its {name}")


def _check_lengths(ids: Sequence[NDArray[Any]], limit: int) -> None:
    for number, part in enumerate(ids):
        if len(part) > limit:
            raise UserError(
                f"inputs[{number}] has {len(part)} tokens, and the model reads at most {limit}; give the tokenizer "
                "truncation=True"
            )


def _refuse_padding(ids: Sequence[NDArray[Any]], tokenizer: AutoTokenizer | None) -> None:
    padding = tokenizer.pad_token_id if tokenizer else None
    if padding is not None and any(padding in part for part in ids):
        raise UserError("the encodings hold padding and no attention_mask that tells it apart; give that column too")


def _rows(ids: Sequence[NDArray[Any]], types: Sequence[NDArray[Any]] | None, model: Model) -> list[Row]:
    segments = model.config.type_vocab_size
    if types is None or not segments:  # a model without segments tells a pair apart by what stands between its texts
        return [row(part, model.config.attention) for part in ids]
    for number, part in enumerate(types):
        if not (part.min() >= 0 and part.max() < segments):
            raise UserError(f"inputs[{number}] has token_type_ids beyond the {segments} that the model knows")
    made = zip(ids, types, strict=True)
    return [row(part, model.config.attention, token_type_ids=kinds) for part, kinds in made]
