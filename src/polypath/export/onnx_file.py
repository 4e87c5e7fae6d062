"""ONNX: one file with weights and description, answered by ONNX Runtime before it is kept."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable
from typing import Any

import torch

from polypath.core.errors import InvalidInput
from polypath.export.graph import TaskGraph, traced
from polypath.export.zeros import packed

KEY = "polypath"  # of metadata_props: the description as JSON
OPSET = 20  # the newest that onnxruntime 1.18 and the converters of other runtimes read
LARGEST = 2**31 - 2**20  # a protobuf message ends at 2 GiB


def require() -> None:
    """Raise InvalidInput where the packages of the extra are missing."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidInput(
            f"format onnx: package(s) {', '.join(missing)} missing; pip install 'polypath[onnx]', or export with "
            "format torch, which needs nothing more"
        )


def built(graph: TaskGraph, example: torch.Tensor, about: dict[str, Any]) -> bytes:
    """The bytes of an .onnx file.

    Args:
        graph: what it computes.
        example: raw inputs it is traced with.
        about: the description, kept in metadata_props.
    """
    import onnx

    size = sum(t.numel() * t.element_size() for t in (*graph.parameters(), *graph.buffers()))
    if size > LARGEST:
        raise InvalidInput(
            f"format onnx: {size:,} bytes of weights do not fit one file of 2 GiB; export with format torch"
        )
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations inside torch and onnxscript, which nobody here can act on
        program: Any = torch.onnx.export(
            traced(graph, example),
            (),
            dynamo=True,
            input_names=[graph.input_name],
            output_names=list(graph.output_names),
            opset_version=OPSET,
            verbose=False,
        )
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    packed(model)
    model.metadata_props.add(key=KEY, value=json.dumps(about, ensure_ascii=False))
    model.producer_name = "polypath"
    model.producer_version = about["polypath"]
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _strip(model: Any) -> None:
    """Leave out where in the source every operation came from: paths of this machine, and many bytes."""
    del model.metadata_props[:]
    for holder in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph):
        del holder.metadata_props[:]
        holder.doc_string = ""
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
            node.doc_string = ""


def opened(content: bytes) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
    """What answers raw inputs: ONNX Runtime with the file, on one CPU thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda raw: tuple(torch.from_numpy(values) for values in session.run(None, {name: raw.numpy()}))
