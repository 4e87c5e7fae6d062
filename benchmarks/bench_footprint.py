"""Memory, disk and start-up: training peak, loaded system, checkpoint, import time, first load and first predict.

Every figure is of a fresh process. Run: python benchmarks/bench_footprint.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from side_by_side import write_record

_MEMORY = """
from side_by_side import in_memory
def memory():
    return in_memory("VmHWM")
"""
_SUITE = """
from bench_loop import suite
"""
_TRAIN = (
    _MEMORY
    + _SUITE
    + """
import torch, json, pathlib, polypath as pp
base = memory()
data = suite({tasks}, 64)
system = pp.learn("part", data, modules={modules}, selected=4, width={width}, epochs=1, batch=16, out={out!r},
                  progress=False, evaluate_every=0)
print(json.dumps({{"process_bytes": memory(), "before_bytes": base,
                  "system_bytes": sum(p.stat().st_size for p in pathlib.Path({out!r}, "system").rglob("*.*")),
                  "parameters": system.result.totals.parameters}}))
"""
)
_CHECKPOINT = (
    _SUITE
    + """
import json, pathlib, torch, polypath as pp
from polypath.train import engine
sizes = []
end = engine.Engine.end_stage
def measured(self, stage):
    sizes.extend(file.stat().st_size for file in (self.out / "checkpoint").glob("stage-*.safetensors"))
    end(self, stage)
engine.Engine.end_stage = measured
pp.learn("part", suite({tasks}, 64), modules={modules}, selected=4, width={width}, epochs=1, batch=16, out={out!r},
         progress=False, evaluate_every=0)
print(json.dumps({{"checkpoint_bytes": sizes[0]}}))
"""
)
_LOAD = (
    _MEMORY
    + """
import json, time, torch
import polypath as pp
images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
pp.load
before = memory()
began = time.perf_counter(); system = pp.load({out!r}); loaded = time.perf_counter()
after_load = memory()
system.predict("task0", images); predicted = time.perf_counter()
after_predict = memory()
print(json.dumps({{"load_s": loaded - began, "first_predict_s": predicted - loaded, "load_bytes": after_load - before,
                  "one_task_bytes": after_predict - before}}))
"""
)
_IMPORT = """
import time, torch
began = time.perf_counter()
import polypath
{more}
print(time.perf_counter() - began)
"""


def fresh(code: str) -> str:
    """Last line printed by the code in a new Python process."""
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=here)
    return done.stdout.strip().splitlines()[-1]


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--modules", type=int, default=12)
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--out")
    args = parser.parse_args()
    figures: dict[str, Any] = {"width": args.width, "modules": args.modules, "tasks": args.tasks}
    for name, more in (("import_polypath", ""), ("import_learn_load", "polypath.learn, polypath.load, polypath.data")):
        seconds = [float(fresh(_IMPORT.format(more=more))) for _ in range(3)]
        figures[f"{name}_s_beyond_torch"] = {"median": statistics.median(seconds), "all": seconds}
    with tempfile.TemporaryDirectory() as folder:
        values = {"tasks": args.tasks, "modules": args.modules, "width": args.width}
        figures["training"] = json.loads(fresh(_TRAIN.format(out=f"{folder}/run", **values)))
        figures["checkpoint"] = json.loads(fresh(_CHECKPOINT.format(out=f"{folder}/run2", **values)))
        loads = [json.loads(fresh(_LOAD.format(out=f"{folder}/run/system"))) for _ in range(3)]
        figures["loading"] = {key: statistics.median(load[key] for load in loads) for key in loads[0]}
    figures["target"] = {"import_s_beyond_torch": 1.5}
    write_record("footprint", figures, "python benchmarks/bench_footprint.py", args.out)


if __name__ == "__main__":
    main()
