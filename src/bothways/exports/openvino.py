"""OpenVINO: the graph of ONNX in Intel's form, weights in float32 or float16."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bothways.checkpoints.checkpoint import Loaded
from bothways.exports import onnx
from bothways.exports._graph import ask_graph, by_head, outputs_of
from bothways.exports.export import Answers, one_by_one

PRECISIONS = {"fp32": 1e-4, "fp16": 0.05}
NEEDS = {"onnx": "onnx", "onnxscript": "onnx", "openvino": "openvino"}
LIBRARY = "openvino"
FILE = "openvino_model.xml"


def refuse(loaded: Loaded) -> None:
    """Refuse nothing: any trunk is a graph."""


def write(loaded: Loaded, folder: Path, precision: str) -> None:
    """Write the graph, with the tokenizer beside it."""
    import openvino

    onnx.write(loaded, folder, "fp32")
    openvino.save_model(openvino.convert_model(folder / onnx.FILE), folder / FILE, compress_to_fp16=precision == "fp16")
    (folder / onnx.FILE).unlink()


def answers(folder: Path, loaded: Loaded, sequences: Sequence[Sequence[int]]) -> Answers:
    """Ask OpenVINO, in float32."""
    import openvino

    model = openvino.Core().compile_model(folder / FILE, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    wanted = outputs_of(loaded.model)

    def ask(sequence: Sequence[int]) -> Mapping[str, Any]:
        ids = np.array([sequence], dtype=np.int64)
        said = model({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        return by_head({output.name: said[output.name] for output in wanted}, wanted)

    return one_by_one(ask, sequences)


def usage(loaded: Loaded) -> str:
    """With OpenVINO."""
    return ask_graph(
        loaded, "import openvino", f'model = openvino.Core().compile_model("{FILE}", "CPU")', "outputs = model(feed)"
    )
