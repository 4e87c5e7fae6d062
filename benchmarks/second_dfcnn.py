"""DF-CNN's lifelong CIFAR-100 experiment once more in TensorFlow 1's graph mode, with nothing of polypath imported.

A check of our networks, initial values, optimizer and data by a second implementation, written from the same
specification: single networks and DF-CNN on the authors' ten tasks (170 training images each, standardised by their own
statistics, batches of ten, sums over them, RMSProp 1e-4 / (1 + epoch / 4000)). Peaks are the highest accuracy on test
data every ten epochs, as in `polypath run dfcnn/cifar100_lifelong --set method.epochs=200`.
Run, in an environment of its own (`pip install tensorflow-cpu pyarrow pillow`), about ten minutes a method on one core:
POLYPATH_DATA=... python benchmarks/second_dfcnn.py
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import tensorflow.compat.v1 as tf
from PIL import Image

TASKS = (
    (4, 1, 54, 9, 0, 5, 6, 3, 12, 8),
    (30, 32, 62, 10, 51, 20, 7, 42, 17, 13),
    (55, 67, 70, 16, 53, 25, 14, 43, 37, 48),
    (72, 73, 82, 28, 57, 84, 18, 88, 68, 58),
    (95, 91, 92, 61, 83, 94, 24, 97, 76, 90),
    (22, 23, 15, 34, 26, 2, 27, 36, 47, 41),
    (39, 33, 19, 63, 45, 11, 29, 50, 52, 69),
    (40, 49, 21, 64, 77, 35, 44, 65, 56, 81),
    (86, 60, 31, 66, 79, 46, 78, 74, 59, 85),
    (87, 71, 38, 75, 99, 98, 93, 80, 96, 89),
)
# Of every convolution: channels out, side of the pooling, channels of its knowledge base, channels of its basis.
LAYERS = ((32, 1, 16, 24), (32, 2, 24, 48), (64, 1, 32, 64), (64, 2, 36, 72))
BATCH, TRAINING = 10, 17  # images a step; training images a class

Filters = Callable[[int, int], tuple[tf.Tensor, tf.Variable]]  # channels in, index of the layer -> filters, bias


def main() -> None:
    """Learn the tasks with both methods; print and write down their peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["single", "dfcnn"], choices=["single", "dfcnn"])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--tasks", type=int, default=len(TASKS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=str(Path(__file__).parents[1] / "docs" / "results" / "benchmarks"))
    args = parser.parse_args()
    tf.disable_eager_execution()
    figures: dict[str, Any] = {}
    for method in args.methods:
        peaks = learn(method, args.epochs, args.tasks, args.seed)
        figures[method] = {"mean peak by test": float(np.mean(peaks)), "peaks of the tasks": peaks}
    command = f"python benchmarks/second_dfcnn.py --epochs {args.epochs} --seed {args.seed}"
    record = {"name": "second_dfcnn", "command": command, "figures": figures, "environment": environment()}
    path = Path(args.out) / "second_dfcnn.json"
    path.write_text(json.dumps(record, indent=1) + "\n")


def learn(method: str, epochs: int, tasks: int, seed: int) -> list[float]:
    """Highest test accuracy of every task while it was learned."""
    rng = np.random.default_rng(seed)
    tf.reset_default_graph()
    tf.set_random_seed(seed)
    bases = [glorot((1, 2, 2, base)) for _, _, base, _ in LAYERS] if method == "dfcnn" else None
    x, y = tf.placeholder(tf.float32, (None, 32, 32, 3)), tf.placeholder(tf.int32, (None,))
    epoch, kept = tf.placeholder(tf.float32), tf.placeholder(tf.float32)
    steps, scores = [], []
    for _ in range(tasks):
        logits = network(x, kept, plain if bases is None else generated(bases))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
        rate = 1e-4 / (1 + epoch / 4000)
        steps.append(tf.train.RMSPropOptimizer(rate).minimize(losses))  # of a vector: TensorFlow sums it
        scores.append(tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1, output_type=tf.int32), y), tf.float32)))
    train, test = images("train"), images("test")
    peaks, done = [], 0
    with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)) as session:
        session.run(tf.global_variables_initializer())
        for task in range(tasks):
            known, labels = drawn(*train, TASKS[task], TRAINING, rng)
            unseen, answers = drawn(*test, TASKS[task], None, rng)
            measured = []
            for number in range(1, epochs + 1):
                for at in np.split(rng.permutation(len(known)), range(BATCH, len(known), BATCH)):
                    session.run(steps[task], {x: known[at], y: labels[at], epoch: done, kept: 0.5})
                done += 1
                if number % 10 == 0:
                    measured.append(float(session.run(scores[task], {x: unseen, y: answers, kept: 1.0})))
            peaks.append(max(measured))
            print(f"{method}, task {task + 1}: {peaks[-1]:.3f}", flush=True)
    return peaks


def network(x: tf.Tensor, kept: tf.Tensor, filters: Filters) -> tf.Tensor:
    """Logits of four convolutions, dropout and two dense layers."""
    channels = 3
    for index, (wide, pool, _, _) in enumerate(LAYERS):
        kernel, bias = filters(channels, index)
        x = tf.nn.relu(tf.nn.conv2d(x, kernel, strides=(1, 1, 1, 1), padding="SAME") + bias)
        if pool > 1:
            x = tf.nn.max_pool(x, (1, pool, pool, 1), (1, pool, pool, 1), "SAME")
        channels = wide
    x = tf.nn.dropout(tf.reshape(x, (-1, 8 * 8 * channels)), keep_prob=kept)
    x = tf.nn.relu(tf.matmul(x, normal((8 * 8 * channels, 64))) + raised(64))
    return tf.matmul(x, normal((64, 10))) + raised(10)


def plain(channels: int, index: int) -> tuple[tf.Tensor, tf.Variable]:
    """Filters that are learned directly."""
    wide = LAYERS[index][0]
    return normal((3, 3, channels, wide)), raised(wide)


def generated(bases: Sequence[tf.Variable]) -> Filters:
    """Filters deconvolved from shared knowledge bases and contracted; transforms are the task's own."""

    def filters(channels: int, index: int) -> tuple[tf.Tensor, tf.Variable]:
        wide, _, base, basis = LAYERS[index]
        spread = glorot((3, 3, basis, base))
        maps = tf.nn.conv2d_transpose(bases[index], spread, (1, 3, 3, basis), strides=(1, 2, 2, 1), padding="SAME")
        maps += glorot((1, 1, 1, basis))
        tensor = glorot((basis, channels, wide))
        return tf.tensordot(maps[0], tensor, ((2,), (0,))), glorot((1, 1, 1, wide))

    return filters


def normal(shape: tuple[int, ...]) -> tf.Variable:
    """Weights of a layer that is learned directly."""
    return tf.Variable(tf.truncated_normal(shape, stddev=0.05))


def raised(size: int) -> tf.Variable:
    """Biases of a layer that is learned directly."""
    return tf.Variable(tf.constant(0.2, shape=(size,)))


def glorot(shape: tuple[int, ...]) -> tf.Variable:
    """Glorot's uniform values, fans as TensorFlow counts them."""
    return tf.Variable(tf.glorot_uniform_initializer()(shape))


def images(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (examples, 32, 32, 3) in [0, 1] and labels of CIFAR-100."""
    rows = parquet.read_table(Path(os.environ["POLYPATH_DATA"]) / "cifar100" / f"{split}-00000-of-00001.parquet")
    pictures = [np.asarray(Image.open(io.BytesIO(row["bytes"]))) for row in rows["img"].to_pylist()]
    return np.stack(pictures).astype(np.float32) / 255, np.array(rows["fine_label"].to_pylist())


def drawn(
    pictures: np.ndarray, labels: np.ndarray, classes: Sequence[int], count: int | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Some of every class (None: all), standardised by their own statistics; labels count from zero."""
    rows = [rng.permutation(np.flatnonzero(labels == name))[:count] for name in classes]
    chosen = pictures[np.concatenate(rows)]
    chosen = (chosen - chosen.mean((0, 1, 2))) / chosen.std((0, 1, 2))
    return chosen, np.repeat(np.arange(len(classes)), [len(some) for some in rows])


def environment() -> dict[str, Any]:
    """Where this ran."""
    told = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in told.items()}
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": facts.get("model name", platform.machine()),
        "cpu_bf16": "amx_bf16" in facts.get("flags", ""),
        "threads": 1,
        "commit": commit.stdout.strip(),
        "versions": {"tensorflow": tf.__version__},
    }


if __name__ == "__main__":
    main()
