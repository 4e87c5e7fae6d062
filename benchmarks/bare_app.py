"""A bare FastAPI application around one plain torch module: what bench_serve.py compares `polypath serve` with.

The same body and the same answer as `POST /v1/tasks/{task}/predict`, with nothing else: no queue, batch, limit, access,
metric, reload. FastAPI runs the function in its thread pool. Run: python benchmarks/bare_app.py SYSTEM TASK
"""

from __future__ import annotations

import base64
import io
import socket
import sys
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel

import polypath as pp

system = pp.load(sys.argv[1])
task = system.tasks[sys.argv[2]]
module = system.extract(task.name)
labels = list(task.target.labels)
mean, std = torch.tensor(task.preprocess.mean), torch.tensor(task.preprocess.std)
app = FastAPI()


class Body(BaseModel):
    inputs: list[Any]


def encoded(inputs: list[Any]) -> torch.Tensor:
    if not isinstance(inputs[0], str):
        return (torch.tensor(inputs) - mean) / std
    images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in inputs]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return (pixels - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


@app.post("/predict")
def predict(body: Body) -> dict[str, Any]:
    with torch.inference_mode():
        shares = module(encoded(body.inputs)).softmax(1).tolist()
    answers = []
    for row in shares:
        best = max(row)
        named = dict(zip(labels, row, strict=True))
        answers.append({"label": labels[row.index(best)], "probability": best, "probabilities": named})
    return {"task": task.name, "answers": answers}


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        print(f"bare http://127.0.0.1:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
        config = uvicorn.Config(app, log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listening])
