"""ONNX: a graph with dynamic batch and length, run by ONNX Runtime; whole numbers of 8 bits if wished."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bothways.checkpoints.checkpoint import Loaded
from bothways.exports._graph import INPUTS, Graph, ask_graph, by_head, outputs_of
from bothways.exports.export import Answers, one_by_one

PRECISIONS = {"fp32": 1e-4, "int8": 1.0}
NEEDS = {"onnx": "onnx", "onnxscript": "onnx", "onnxruntime": "onnx"}
LIBRARY = "onnx"
FILE = "model.onnx"


def refuse(loaded: Loaded) -> None:
    """Refuse nothing: any trunk is a graph."""


def write(loaded: Loaded, folder: Path, precision: str) -> None:
    """Write the graph, with the tokenizer beside it."""
    with quiet():
        _write_graph(loaded, folder, precision)
    if loaded.tokenizer is not None:
        loaded.tokenizer.save(folder)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries from warning of each other."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _write_graph(loaded: Loaded, folder: Path, precision: str) -> None:
    graph = Graph(loaded.model).eval()
    ids = torch.ones((2, 5), dtype=torch.int64)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    shapes = {name: {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")} for name in INPUTS}
    with torch.no_grad():
        program = torch.onnx.export(
            graph,
            (ids, mask),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=list(INPUTS),
            output_names=[output.name for output in graph.outputs],
            verbose=False,
        )
    assert program is not None
    program.save(folder / FILE, external_data=False)
    if precision == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(folder / FILE, folder / "int8.onnx", weight_type=QuantType.QInt8, per_channel=True)
        (folder / "int8.onnx").replace(folder / FILE)


def answers(folder: Path, loaded: Loaded, sequences: Sequence[Sequence[int]]) -> Answers:
    """Ask ONNX Runtime."""
    from onnxruntime import InferenceSession

    session = InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    wanted = outputs_of(loaded.model)

    def ask(sequence: Sequence[int]) -> Mapping[str, Any]:
        ids = np.array([sequence], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        said = session.run([output.name for output in wanted], feed)
        return by_head(dict(zip((output.name for output in wanted), said, strict=True)), wanted)

    return one_by_one(ask, sequences)


def usage(loaded: Loaded) -> str:
    """With ONNX Runtime."""
    opening = f'session = InferenceSession("{FILE}", providers=["CPUExecutionProvider"])'
    return ask_graph(loaded, "from onnxruntime import InferenceSession", opening, "outputs = session.run(None, feed)")
