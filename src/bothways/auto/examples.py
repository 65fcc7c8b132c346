"""What users give a classifier to read, as rows: encodings of any make, or raw texts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bothways import progress
from bothways.auto.encodings import is_flat
from bothways.auto.labels import as_list
from bothways.auto.tokenizer import AutoTokenizer
from bothways.batch import Row, row
from bothways.errors import UserError
from bothways.inference.reading import check_sequences
from bothways.model.heads import Model

READ = ("input_ids", "attention_mask", "token_type_ids")
LEFT = ("special_tokens_mask", "offset_mapping", "length", "labels")  # what tokenizers may add, and no model reads


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


def encode_texts(items: Sequence[Any], tokenizer: AutoTokenizer | None) -> Mapping[str, Any]:
    """Encode raw texts, or pairs of them, cutting those that the model cannot read whole, and say how many that are."""
    if tokenizer is None:
        raise UserError("this model comes without a tokenizer, so it reads encodings only, and no texts")
    pairs = [(item,) if isinstance(item, str) else item for item in items]
    for number, pair in enumerate(pairs):
        paired = isinstance(pair, tuple | list) and all(isinstance(text, str) for text in pair)
        if not paired or len(pair) != len(pairs[0]) or len(pair) > 2:
            raise UserError(_not_a_text(items[number], number))
    columns = [list(texts) for texts in zip(*pairs, strict=True)]
    limit = tokenizer.model_max_length
    encodings = tokenizer(*columns)
    too_long = 0 if limit is None else sum(len(ids) > limit for ids in encodings.input_ids)
    if not too_long:
        return encodings
    progress.note(
        f"{too_long:,} of {len(items):,} texts have more than {limit} tokens; the model reads their beginning"
    )
    return tokenizer(*columns, truncation=True)


def _not_a_text(item: Any, number: int) -> str:
    if item is None or item != item:
        return f"inputs[{number}] is missing ({item}); leave that example out"
    if np.ndim(item):
        return (
            f"inputs[{number}] is no text: {item!r}; give texts, or pairs of texts throughout, or whole encodings "
            "with their attention_mask, as the tokenizer returns them"
        )
    return f"inputs[{number}] must be a text, not {item!r}"


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
    kept = (
        [np.ones(len(part), dtype=np.bool_) for part in ids] if masks is None else [m.astype(np.bool_) for m in masks]
    )
    if masks is None:
        _refuse_padding(ids, tokenizer)
    sequences = check_sequences(model, [part[keep] for part, keep in zip(ids, kept, strict=True)], "inputs")
    segments = None if types is None else [part[keep] for part, keep in zip(types, kept, strict=True)]
    return _rows(sequences, segments, model)


def _arrays(column: Any) -> list[NDArray[Any]] | None:
    """Return a column as one array for each text."""
    if column is None:
        return None
    rows = _array(column) if hasattr(column, "detach") else column
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
