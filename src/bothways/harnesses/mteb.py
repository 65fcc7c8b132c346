"""MTEB, the benchmark of text embeddings: a model of ours turns texts into vectors, and the tasks judge these.

In Python::

    mteb.evaluate(BothwaysEncoder("bert"), tasks=mteb.get_tasks(tasks=["STSBenchmark"]))
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bothways.batch import Attention
from bothways.checkpoints.checkpoint import Loaded
from bothways.errors import UserError, unknown
from bothways.harnesses.opening import missing, open_model
from bothways.inference.encode import encode
from bothways.tasks.task import text_row, tokenizer_of
from bothways.text.tokenizing.tokenizer import in_batches
from bothways.training.machine import resolve_precision

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
except ModuleNotFoundError as error:
    raise missing("mteb", "mteb") from error

_TEXTS = 4096  # whose token ids are in memory together
_BATCH_TOKENS = 8192  # read at once, where no batch size is given


class BothwaysEncoder(AbsEncoder):
    """A model of ours as MTEB's tasks ask it: each text becomes a unit vector, the mean of its hidden states.

    Texts are framed as in training, ``[CLS] text [SEP]`` or after a start token; what is too long loses its end. There are
    no prompts: queries and documents are read alike.

    Attributes:
        mteb_model_meta: under which results are kept. Its revision is made of the weights, the tokenizer and how they are
            used, so that a model that was trained on has results of its own.
    """

    def __init__(
        self,
        model_name: str | Path,
        revision: str | None = None,
        *,
        device: str | None = None,
        attention: Attention | None = None,
        precision: Literal["auto", "bf16", "fp32"] = "auto",
        verify: bool = True,
    ) -> None:
        """Open a model.

        Args:
            model_name: a run, a folder or a hub id.
            revision: branch, tag or commit; on the Hub only.
            device: as torch names it; None: the best there is.
            attention: which way a hybrid reads; None: as its settings say.
            precision: ``"auto"``: bfloat16 where the device multiplies it in hardware, as other predictions.
            verify: compare the model's files with their hashes.
        Raises:
            UserError: there is no such model or device, or the model has no tokenizer.
        """
        self._loaded = open_model(model_name, revision=revision, device=device, attention=attention, verify=verify)
        self._precision = resolve_precision(precision, self._loaded.model.device)
        self.mteb_model_meta = _meta(str(model_name), self._loaded, self._precision)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,  # noqa: ARG002
        hf_subset: str,  # noqa: ARG002
        prompt_type: Any = None,  # noqa: ARG002
        batch_size: int | None = None,
        show_progress_bar: bool = False,  # noqa: ARG002  (bars are shown by ``bothways.display()``)
        **others: object,
    ) -> NDArray[np.float32]:
        """Return a unit vector for each text: float32 [texts, hidden_size].

        Args:
            inputs: batches, each with its texts under ``text``.
            task_metadata: its name is used in messages.
            hf_split, hf_subset, prompt_type: change nothing.
            batch_size: texts of full length that are read at once; None: 8,192 tokens.
            show_progress_bar: changes nothing.
            others: none are known.
        Raises:
            UserError: inputs without text, or an unknown option.
        """
        if others:
            raise unknown("encode_kwargs", next(iter(others)), ("batch_size", "show_progress_bar"))
        model, tokenizer = self._loaded.model, tokenizer_of(self._loaded)
        length = model.config.max_position_embeddings
        vectors = [np.zeros((0, model.config.hidden_size), dtype=np.float32)]
        for texts in in_batches(chain.from_iterable(_texts(inputs, task_metadata.name)), _TEXTS):
            rows = [text_row(text, tokenizer, model.config, max_length=length) for text in texts]
            budget = _BATCH_TOKENS if batch_size is None else batch_size * length
            vectors.append(encode(model, rows, batch_tokens=budget, precision=self._precision))
        return np.concatenate(vectors)


def _texts(batches: Iterable[Mapping[str, Any]], task: str) -> Iterator[list[str]]:
    for batch in batches:
        if "text" not in batch:
            raise UserError(f"the task {task} has inputs of {', '.join(batch)}, and bothways reads text alone")
        yield list(batch["text"])


def _meta(name: str, loaded: Loaded, precision: str) -> ModelMeta:
    """Return what MTEB keeps of a model; it wants a name of two parts."""
    local = Path(name).expanduser().exists() or "/" not in name
    model, config = loaded.model, loaded.model.config
    return ModelMeta(
        loader=None,
        name=f"bothways/{Path(name).expanduser().resolve().name}" if local else name,
        revision=_fingerprint(loaded, precision),
        release_date=None,
        languages=None,
        n_parameters=sum(each.numel() for each in model.parameters()),
        n_embedding_parameters=model.transformer.embed_tokens.weight.numel(),
        memory_usage_mb=None,
        max_tokens=config.max_position_embeddings,
        embed_dim=config.hidden_size,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name="cosine",
        use_instructions=False,
        training_datasets=None,
    )


def _fingerprint(loaded: Loaded, precision: str) -> str:
    """Return 40 hexadecimal digits that change with the vectors."""
    digest = hashlib.sha256(json.dumps([loaded.model.config.to_dict(), precision], sort_keys=True).encode())
    digest.update(tokenizer_of(loaded).backend.to_str().encode())
    for name, tensor in sorted(loaded.model.transformer.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:40]
