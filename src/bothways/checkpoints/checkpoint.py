"""Checkpoints: a folder that holds a model as Hugging Face holds it, its tokenizer, and what training needs to go on.

| file | what |
|---|---|
| ``model.safetensors``, ``config.json`` | the model, in the names and layout of the family that computes the same |
| ``tokenizer.json`` | its tokenizer |
| ``training.safetensors``, ``state.json`` | tensors and plain values of the training state |
| ``manifest.json`` | size and SHA-256 of each of these, written last |

A folder that only holds the first two, as anyone may have published it, can be loaded too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bothways.batch import Attention
from bothways.checkpoints.family import Family, family_for, family_of
from bothways.checkpoints.files import read_object
from bothways.checkpoints.folders import USED, checkpoints_in, clean, newest_complete, write_folder
from bothways.checkpoints.gguf import ENDING, GGUF
from bothways.checkpoints.hub import resolve
from bothways.checkpoints.manifest import MANIFEST, verify_manifest
from bothways.checkpoints.settings import left_over, put_back
from bothways.checkpoints.tensors import WEIGHTS, Stored, StoredTensors, read_tensors, weight_files, write_tensors
from bothways.checkpoints.weights import from_tensors, outputs, to_tensors
from bothways.errors import UserError
from bothways.model.config import TransformerConfig
from bothways.model.heads import Model
from bothways.model.pace import Pace
from bothways.progress import note
from bothways.text.tokenizing.files import is_tokenizer
from bothways.text.tokenizing.tokenizer import Tokenizer

__all__ = [
    "Loaded",
    "checkpoints_in",
    "clean",
    "load",
    "load_checkpoint",
    "newest_complete",
    "resolve",
    "save_checkpoint",
]

CONFIG = "config.json"
TRAINING = "training.safetensors"
STATE = "state.json"
OTHER_CONFIG = "config.bidirectional.json"  # of a hybrid: its weights as a BERT, for other people's programs


def save_checkpoint(
    folder: str | Path,
    model: Model,
    *,
    tokenizer: Tokenizer | None = None,
    labels: Sequence[str] | None = None,
    training: Mapping[str, Tensor] | None = None,
    state: Mapping[str, Any] | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint, whole or not at all; one that is already there is replaced.

    Args:
        folder: where to.
        model: its weights and settings.
        tokenizer: of the model.
        labels: names of its classes, in the order of the outputs.
        training: what training needs to go on: tensors.
        state: what training needs to go on: plain JSON values.
        details: further plain values for ``config.json``.
    Raises:
        OutOfDiskError: there is no room, or the disk fails; what was there before is whole.
        NonFiniteError: a weight is infinite or undefined.
        UnwritableError: the place cannot be written.
        UserError: it holds something else than a checkpoint.
    """
    family = family_for(model.config)
    config = _write_config(model, model.config, tokenizer, labels)
    assert not set(config) & set(details or {}), "details may not replace what config.json holds already"
    weights = to_tensors(model, family)

    def write(into: Path) -> None:
        write_tensors(into / WEIGHTS, weights)
        _write_json(into / CONFIG, {**config, **(details or {})})
        if model.config.hybrid:
            as_bert = model.config.read_as("bidirectional")
            _write_json(into / OTHER_CONFIG, _write_config(model, as_bert, tokenizer, labels))
        if tokenizer is not None:
            tokenizer.save(into, token_types=model.config.type_vocab_size > 1)
        if training is not None:
            write_tensors(into / TRAINING, training)
        if state is not None:
            _write_json(into / STATE, state)

    write_folder(Path(folder), write)


def _write_config(
    model: Model, trunk: TransformerConfig, tokenizer: Tokenizer | None, labels: Sequence[str] | None
) -> dict[str, Any]:
    family, heads = family_for(trunk), outputs(model)
    values = family.write_config(trunk, heads)
    extra = {"heads": heads, "settings": left_over(trunk, family.read_config(values))}
    shifted = {"shifted": True} if model.shifted else {}
    pace = {"pace": model.pace.to_dict()} if model.pace else {}
    tokens = {
        name: index
        for name, index in _special_tokens(tokenizer).items()
        if name not in values or (index is not None and _is_free(family, values, name, index))
    }
    return {
        **values,
        "dtype": str(model.transformer.embed_tokens.weight.dtype).removeprefix("torch."),
        **tokens,
        **_write_labels(labels, heads.get("classification", heads.get("token_classification", 0))),
        "bothways": {**extra, **shifted, **pace},
    }


def _is_free(family: Family, values: Mapping[str, Any], name: str, index: int) -> bool:
    """Whether a token's id does not decide what the trunk computes, as that of RoBERTa's padding does."""
    try:
        return family.read_config({**values, name: index}) == family.read_config(values)
    except UserError:
        return False


def _special_tokens(tokenizer: Tokenizer | None) -> dict[str, int | None]:
    """Return the ids that Hugging Face keeps in ``config.json``; left out, a class would put ids of its own there."""
    ids = tokenizer.special_ids if tokenizer else {}
    mask = {"mask_token_id": ids["mask"]} if "mask" in ids else {}
    return {**{f"{role}_token_id": ids.get(role) for role in ("bos", "eos", "pad")}, **mask}


def _write_labels(labels: Sequence[str] | None, classes: int) -> dict[str, Any]:
    """Return the names of classes; Hugging Face also counts the classes by them."""
    assert labels is None or classes in (0, len(labels)), f"{len(labels)} labels for {classes} classes"
    names = [f"LABEL_{index}" for index in range(classes)] if labels is None else labels
    if not names:
        return {}
    return {
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """What a checkpoint holds.

    Attributes:
        folder: where it is.
        model: in float32, on the CPU, in training mode.
        tokenizer: None if there is none.
        labels: names of the classes, or None if they have no names.
        config: what ``config.json`` holds, untouched.
        new_heads: heads that were asked for and are not stored: their weights are fresh.
        unused: stored tensors of heads that were not asked for.
        state: plain values of the training state, or None.
        ignored: stored tensors that are no weights, such as numbered positions or a mask.
    """

    folder: Path
    model: Model
    tokenizer: Tokenizer | None
    labels: tuple[str, ...] | None
    config: Mapping[str, Any]
    new_heads: tuple[str, ...]
    unused: tuple[str, ...]
    state: Mapping[str, Any] | None
    ignored: tuple[str, ...] = ()

    def training(self) -> dict[str, Tensor]:
        """Read the tensors of the training state.

        Raises:
            UserError: the checkpoint has none: training cannot go on from it, only begin from it.
        """
        file = self.folder / TRAINING
        if not file.is_file():
            raise UserError(
                f"{str(self.folder)!r} holds no training state to go on from; it can only be a starting point"
            )
        return read_tensors(file)


def load(
    name_or_folder: str | Path,
    *,
    revision: str | None = None,
    heads: Mapping[str, int] | None = None,
    attention: Attention | None = None,
    verify: bool = True,
) -> Loaded:
    """Load a run, a folder, or a model of the Hugging Face Hub; see ``resolve`` and ``load_checkpoint``.

    That something is loaded without being verified is said aloud.
    """
    folder = resolve(name_or_folder, revision)
    if not verify:
        note(f"{folder} is not verified: damage to its files goes unnoticed")
    return load_checkpoint(folder, heads=heads, attention=attention, verify=verify)


def load_checkpoint(
    folder: str | Path,
    *,
    heads: Mapping[str, int] | None = None,
    attention: Attention | None = None,
    verify: bool = True,
) -> Loaded:
    """Load a checkpoint of ours, or a folder in Hugging Face's format. No code in it is ever run.

    Args:
        folder: with ``config.json`` and ``model.safetensors`` (or several files and their index).
        heads: the heads that the model shall have, with the number of outputs (0: as stored); None: those stored.
        attention: which way a hybrid shall read; other models read as they do.
        verify: check the hash of every file, where there is a manifest.
    Raises:
        DamagedFileError: a file is not what the manifest says, or no valid file of its kind.
        UserError: the folder holds no model that we can read, or the weights do not fit the settings; the message says
            which, and why.
    """
    folder = Path(folder)
    file = GGUF(folder) if folder.suffix == ENDING and folder.is_file() else None
    if not file and not folder.is_dir():
        raise UserError(f"there is no folder {str(folder)!r}")
    if verify and not file:
        _verify(folder)
    values = file.config() if file else read_object(folder / CONFIG)
    family = family_of(values.get("model_type"))
    extra = values.get("bothways") or {}
    if not isinstance(extra, Mapping):
        raise UserError(f"config.json: bothways must be a JSON object, not {extra!r}")
    config = put_back(family.read_config(values), extra.get("settings"))
    if attention is not None and config.hybrid:
        config = config.read_as(attention)
    # Before the weights: what it takes to read a tokenizer for a moment would come on top of them.
    tokenizer = _checked(file.tokenizer(), file.file, config) if file else _load_tokenizer(folder, config)
    stored: Stored = file.tensors() if file else StoredTensors(weight_files(folder))
    wanted = _stored_heads(extra) if heads is None else heads
    fitted = from_tensors(stored, family, config, wanted, architectures=_read_architectures(values))
    if heads is None and fitted.new_heads:
        raise UserError(f"config.json names heads whose weights are missing: {', '.join(fitted.new_heads)}")
    fitted.model.shifted = _stored_shift(extra)
    fitted.model.pace = Pace.from_dict(extra["pace"], where="config.json: bothways.pace.") if "pace" in extra else None
    return Loaded(
        folder=folder,
        model=fitted.model,
        tokenizer=tokenizer,
        labels=_read_labels(values),
        config=values,
        new_heads=fitted.new_heads,
        unused=fitted.unused,
        ignored=fitted.ignored,
        state=read_object(folder / STATE) if (folder / STATE).exists() else None,
    )


def _verify(folder: Path) -> None:
    ours = [name for name in (MANIFEST, STATE, TRAINING) if (folder / name).exists()]
    if ours:  # a folder with a training state is ours, even when its manifest has gone
        verify_manifest(folder, USED)


def _read_architectures(values: Mapping[str, Any]) -> list[str]:
    """Return the names of Hugging Face's classes; anything that is no list of names says nothing."""
    names = values.get("architectures")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _stored_heads(extra: Mapping[str, Any]) -> Mapping[str, int] | None:
    """Return the heads that we noted down: one without weights cannot be seen in a file."""
    heads = extra.get("heads")
    if heads is None:
        return None
    if not isinstance(heads, Mapping) or not all(isinstance(size, int) and size >= 0 for size in heads.values()):
        raise UserError(f"config.json: bothways.heads must map names of heads to numbers of outputs, not {heads!r}")
    return heads


def _stored_shift(extra: Mapping[str, Any]) -> bool:
    """Return whether we noted down that the model says hidden tokens at the position before them."""
    shifted = extra.get("shifted", False)
    if not isinstance(shifted, bool):
        raise UserError(f"config.json: bothways.shifted must be true or false, not {shifted!r}")
    return shifted


def _load_tokenizer(folder: Path, config: TransformerConfig) -> Tokenizer | None:
    if not is_tokenizer(folder):
        return None
    return _checked(Tokenizer.load(folder), folder, config)


def _checked(tokenizer: Tokenizer, place: Path, config: TransformerConfig) -> Tokenizer:
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"the tokenizer in {str(place)!r} has {len(tokenizer)} tokens, and the model knows {config.vocab_size}"
        )
    return tokenizer


def _read_labels(values: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the classes; None where Hugging Face has only numbered them."""
    names = values.get("id2label")
    if names is None:
        return None
    numbers = [str(index) for index in range(len(names))] if isinstance(names, Mapping) else []
    if set(numbers) != set(names) or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f"config.json: id2label must map 0, 1, 2, … to names, not {names!r}")
    labels = tuple(names[number] for number in numbers)
    return None if labels == tuple(f"LABEL_{number}" for number in numbers) else labels
