"""Weights that are mostly zero, kept small: in ONNX one bit a position and the rest, in an archive by deflating it."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np

LEAST = 4_096  # weights; below, the operations that unpack take more bytes than they save
WORTH = 0.75  # packed / plain bytes from which a tensor is packed


def packed(model: Any) -> int:
    """Replace float32 initializers that are mostly zero, in place; returns how many bytes that saved.

    A tensor of n values of which k are not zero becomes n bits and k values, and operations on constants that put
    them together again. ONNX Runtime folds those once, when it loads the model, so that answers cost what they did.

    Args:
        model: an `onnx.ModelProto` of opset 18 or later.
    """
    import onnx
    from onnx import numpy_helper

    graph, saved = model.graph, 0
    nodes: list[Any] = []
    for initializer in list(graph.initializer):
        count = int(np.prod(initializer.dims))
        if initializer.data_type != onnx.TensorProto.FLOAT or count < LEAST:
            continue
        dense = numpy_helper.to_array(initializer)
        kept = dense.reshape(-1) != 0
        size = int(kept.sum()) * 4 + (count + 7) // 8
        if size > WORTH * 4 * count:
            continue
        nodes += _unpacking(graph, initializer.name, dense, kept)
        graph.initializer.remove(initializer)
        saved += 4 * count - size
    if nodes:
        graph.initializer.append(numpy_helper.from_array(np.asarray(_BITS, np.uint8), "packed.bits"))
        graph.initializer.append(numpy_helper.from_array(np.asarray([-1], np.int64), "packed.flat"))
        graph.initializer.append(numpy_helper.from_array(np.asarray([0], np.int64), "packed.begin"))
        graph.initializer.append(numpy_helper.from_array(np.asarray(0, np.int64), "packed.axis"))
        rest = list(graph.node)
        del graph.node[:]
        graph.node.extend([*nodes, *rest])
    return saved


_BITS = [128, 64, 32, 16, 8, 4, 2, 1]  # the order of numpy.packbits


def _unpacking(graph: Any, name: str, dense: np.ndarray, kept: np.ndarray) -> list[Any]:
    """Nodes that make `name` of its bits and values, whose constants they add to the graph."""
    from onnx import TensorProto, helper, numpy_helper

    held = {
        "mask": np.packbits(kept)[:, None],
        "values": np.concatenate([np.zeros(1, np.float32), dense.reshape(-1)[kept]]),
        "count": np.asarray([dense.size], np.int64),
        "shape": np.asarray(dense.shape, np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(value, f"{name}.{key}") for key, value in held.items())

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        given = [one if one.startswith("packed.") else f"{name}.{one}" for one in inputs]
        made = f"{name}.{output}" if output else name
        return helper.make_node(kind, given, [made], name=f"{made}.{kind}", **attributes)

    # The i-th kept position reads the i-th value, every other one the zero in front of them. Written without NonZero,
    # which ONNX Runtime does not fold.
    return [
        node("BitwiseAnd", ["mask", "packed.bits"], "and"),
        node("Cast", ["and"], "truth", to=TensorProto.BOOL),
        node("Cast", ["truth"], "ones", to=TensorProto.INT32),
        node("Reshape", ["ones", "packed.flat"], "padded"),
        node("Slice", ["padded", "packed.begin", "count"], "kept"),
        node("CumSum", ["kept", "packed.axis"], "number"),
        node("Mul", ["kept", "number"], "at"),
        node("Gather", ["values", "at"], "flat"),
        node("Reshape", ["flat", "shape"], ""),
    ]


def deflated(archive: bytes) -> bytes:
    """The same zip archive with its files compressed, where that makes it smaller."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as plain, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as small:
        for entry in plain.infolist():
            small.writestr(entry.filename, plain.read(entry), zipfile.ZIP_DEFLATED)
    return min(archive, out.getvalue(), key=len)
