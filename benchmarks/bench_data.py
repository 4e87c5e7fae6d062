"""Speed of data preparation and augmentation.

Run: POLYPATH_DATA=... python benchmarks/bench_data.py

Augmentation: images per second through PaRT's pipeline (perspective, flip, crop, normalise) at 32 x 32, side by side
with the same pipeline written with kornia's warp over the whole batch and with torchvision image by image.
Preparation: seconds of `split("cifar100", tasks=10)` in a new process, importing torch excluded, with an empty cache
and then with a filled one.

Wall time is what counts; on a shared machine the processor time beside it says what the wall time would have been
(of one thread; of two it adds both up).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from side_by_side import write_record

PREPARE = """
import time, torch
torch.set_num_threads({threads})
start = time.perf_counter(), time.process_time()
from polypath.data import split
suite = split("cifar100", tasks=10, seed=0, augment="part")
print(time.perf_counter() - start[0], time.process_time() - start[1], len(suite))
"""


def best(work: Callable[[], object], images: int, repeats: int = 7, seconds: float = 0.4) -> dict[str, float]:
    """Images per second of the best of several runs, by wall time and by processor time."""
    work()
    start = time.perf_counter()
    work()
    rounds = max(1, int(seconds / max(time.perf_counter() - start, 1e-6)))
    wall = cpu = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter(), time.process_time()
        for _ in range(rounds):
            work()
        wall = min(wall, (time.perf_counter() - begin[0]) / rounds)
        cpu = min(cpu, (time.process_time() - begin[1]) / rounds)
    return {"wall": round(images / wall), "processor": round(images / cpu)}


def augmentation(size: int) -> dict[str, dict[str, float]]:
    """Ours, kornia's warp and torchvision's per-image path on the same batch."""
    import numpy as np
    from PIL import Image
    from torchvision import transforms

    from polypath.core.preprocess import ImagePreprocess
    from polypath.data import augment as _  # noqa: F401  (the module, loaded before the clock starts)
    from polypath.data.augment import augment
    from polypath.data.catalogue import entry
    from polypath.data.options import PART

    known = entry("cifar100")
    assert known.mean is not None and known.std is not None
    decoder = ImagePreprocess(channels=3, height=32, width=32, mean=known.mean, std=known.std)
    generator = torch.Generator().manual_seed(0)
    batch = torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8, generator=generator)
    pictures = [Image.fromarray(np.ascontiguousarray(row.permute(1, 2, 0).numpy())) for row in batch]
    one_by_one = transforms.Compose(
        [
            transforms.RandomPerspective(0.2, 0.75),
            transforms.RandomHorizontalFlip(),
            transforms.RandomCrop(32, 4),
            transforms.ToTensor(),
            transforms.Normalize(known.mean, known.std),
        ]
    )
    return {
        "ours": best(lambda: decoder.encode(augment(batch, PART, generator)), size),
        "kornia": best(lambda: decoder.encode(kornia_pipeline(batch, generator)), size),
        "torchvision": best(lambda: torch.stack([one_by_one(picture) for picture in pictures]), size),
    }


def kornia_pipeline(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The same pipeline with kornia's functions: every image warped, flip and crop composed into the matrix."""
    from kornia.geometry.transform import get_perspective_transform, warp_perspective

    count, _, height, width = batch.shape
    start = torch.tensor([[0.0, 0.0], [31.0, 0.0], [31.0, 31.0], [0.0, 31.0]]).expand(count, 4, 2)
    inwards = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    offset = torch.randint(4, (count, 4, 2), generator=generator) * inwards
    offset = offset * (torch.rand(count, 1, 1, generator=generator) < 0.75)
    move = torch.eye(3).repeat(count, 1, 1)
    flip = torch.rand(count, generator=generator) < 0.5
    move[flip, 0, 0], move[flip, 0, 2] = -1.0, width - 1.0
    move[:, :2, 2] += torch.randint(9, (count, 2), generator=generator) - 4
    matrix = move @ get_perspective_transform(start, start + offset)
    return warp_perspective(batch.float() / 255, matrix, (height, width), align_corners=True)


def preparation(threads: int) -> dict[str, dict[str, float]]:
    """Seconds with an empty cache and with a filled one, each in a process of its own."""
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "POLYPATH_CACHE": cache}
        for name in ("first", "later", "later again"):
            code = PREPARE.format(threads=threads)
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
            )
            wall, cpu, _ = (float(value) for value in done.stdout.split())
            found[name] = {"wall_s": round(wall, 2), "processor_s": round(cpu, 2)}
    return found


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures: dict[str, object] = {
        "load_average_before": os.getloadavg()[0],
        "augmentation_images_per_second": {f"batch {size}": augmentation(size) for size in (16, 32, 128)},
        "targets": {"augmentation_images_per_second": 8000, "first_s": 60, "later_s": 3},
    }
    if os.environ.get("POLYPATH_DATA"):
        figures["cifar100_preparation"] = preparation(arguments.threads)
    write_record("data", figures, "python benchmarks/bench_data.py", arguments.out)


if __name__ == "__main__":
    main()
