"""Readers of published data sets: .parquet, the .arrow files that ``datasets`` saves, and data sets on the hub.

They need the extra ``data``. Rows have numbers and no places in bytes.
"""

from collections.abc import Iterator
from typing import Any

from bothways.errors import UserError
from bothways.text.reading.files import unreadable
from bothways.text.reading.rows import LINE_LIMIT, TOO_LONG, Opened, SourceRow, decode, mend

_BATCH_BYTES, _BATCH_ROWS = 8 << 20, 4096
_BOMB_BYTES, _BOMB_RATIO = 64 << 20, 200


def read_parquet(opened: Opened) -> Iterator[SourceRow]:
    """Yield the rows of a .parquet file, batch by batch, of about 8 MiB; other columns than those asked for stay unread.

    Raises:
        UserError: the file is damaged or unpacks to over 200 times its size, or pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise _missing(opened, "pyarrow") from None
    try:
        table = pyarrow.parquet.ParquetFile(opened.stream, buffer_size=1 << 20)
        groups = [table.metadata.row_group(index) for index in range(table.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        if size > max(_BOMB_BYTES, _BOMB_RATIO * opened.file.size):
            raise UserError(f"{opened.file.shown!r} unpacks to over {_BOMB_RATIO} times its size; that is no corpus")
        at_once = max(1, min(_BATCH_ROWS, _BATCH_BYTES * max(1, table.metadata.num_rows) // max(1, size)))
        names = table.schema_arrow.names
        batches = table.iter_batches(batch_size=at_once, columns=_columns(opened, names))
        yield from _rows(opened, batches, names)
    except (pyarrow.ArrowException, OSError) as error:
        raise unreadable(opened.file.path, error) from None


def read_arrow(opened: Opened) -> Iterator[SourceRow]:
    """Yield the rows of an .arrow file of a saved data set, batch by batch as it was written.

    Raises:
        UserError: the file is damaged, or pyarrow is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise _missing(opened, "pyarrow") from None
    try:
        with pyarrow.ipc.open_stream(opened.stream) as reader:
            names = reader.schema.names
            chosen = _columns(opened, names)
            yield from _rows(opened, (batch.select(chosen) for batch in reader), names)
    except (pyarrow.ArrowException, OSError) as error:
        raise unreadable(opened.file.path, error) from None


def read_hub(opened: Opened) -> Iterator[SourceRow]:
    """Yield the rows of a data set on the hub, as a stream, one split after the other. Code of others is never run.

    Raises:
        UserError: there is no such data set or it cannot be reached, or ``datasets`` is not installed.
    """
    try:
        import datasets
        from huggingface_hub import HfApi
    except ImportError:
        raise _missing(opened, "datasets") from None
    number = 0
    try:
        HfApi().dataset_info(
            opened.file.name, timeout=10
        )  # alone, load_dataset tries for half a minute without a network
        splits = datasets.load_dataset(opened.file.name, streaming=True)
        for name in splits:
            for values in splits[name]:
                number += 1
                yield SourceRow(number, None, dict(values))
    except Exception as error:  # whatever network, hub and decoders raise
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"{opened.file.name!r} does not exist here, and as a data set on the Hugging Face hub it cannot be read: "
            f"{reason.rstrip('.')}; save it with save_to_disk where it can be, and give that folder"
        ) from None


def _missing(opened: Opened, library: str) -> UserError:
    return UserError(f"reading {opened.file.shown!r} needs {library}: pip install 'bothways[data]'")


def _columns(opened: Opened, names: list[str]) -> list[str]:
    return [name for name in names if name in opened.columns] if opened.columns else names


def _rows(opened: Opened, batches: Any, names: list[str]) -> Iterator[SourceRow]:
    number = 0
    lacking = dict.fromkeys(names) if set(opened.columns) - set(names) else {}  # for the message that lists them
    for batch in batches:
        columns = {name: _values(batch.column(name)) for name in batch.schema.names}
        for index in range(batch.num_rows):
            number += 1
            yield _row(number, {**lacking, **{name: column[index] for name, column in columns.items()}})


def _values(column: Any) -> list[Any]:
    """Return Python values; of text that is not UTF-8, the bytes in a wrapper."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        import pyarrow

        plain = column.dictionary_decode() if pyarrow.types.is_dictionary(column.type) else column
        packed = plain.cast(pyarrow.large_binary()).to_pylist()
        return [_Undecoded(value) if value is not None else None for value in packed]


class _Undecoded(bytes):
    """Text of which some may not be UTF-8."""


def _row(number: int, values: dict[str, Any]) -> SourceRow:
    problem = kind = ""
    for name, value in values.items():
        if isinstance(value, _Undecoded):
            text, new_problem, new_kind, _ = decode(value)
            values[name] = mend(text)
            problem, kind = problem or new_problem, kind or new_kind
        if isinstance(value, str | bytes) and len(value) > LINE_LIMIT // 4:
            size = len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else len(value)
            if size > LINE_LIMIT:
                what = f"column {name!r} holds {size:,} bytes, over the {LINE_LIMIT >> 20} MiB that a line may have"
                return SourceRow(number, None, None, what, TOO_LONG)
    return SourceRow(number, None, values, problem, kind)
