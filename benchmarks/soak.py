"""Does anything grow when the demo pipeline runs again and again in one process?

    python benchmarks/soak.py OUT [--rounds 20] [--side 192] [--steps 4] [--short] [--trace]

After each round: memory (resident, and that not shared with other processes), open file handles
and threads. The commands of the demo run in this process, one after the other, each round into a
new folder, on a part of the image that stardist ships, with very short trainings.
"""

import argparse
import gc
import json
import logging
import shutil
import time
import tracemalloc
from pathlib import Path
from typing import Any

import psutil
from oce2stardist.cli.main import main as oce2stardist

from oce2stardist.runners import demo


class InThisProcess(demo._Steps):
    """Runs the demo's commands here, where `run_demo` starts a process for each."""

    def run(self, name: str, arguments: list[object]) -> None:
        """Run one."""
        started = time.monotonic()
        oce2stardist([*map(str, arguments), "--quiet"], standalone_mode=False)
        self.taken[name] = round(time.monotonic() - started, 1)


def measure() -> dict[str, float]:
    """Look at this process."""
    gc.collect()
    process = psutil.Process()
    memory = process.memory_full_info()
    return {
        "rss_mb": memory.rss / 1e6,
        "uss_mb": memory.uss / 1e6,
        "handles": process.num_fds(),
        "threads": process.num_threads(),
        "python_objects": len(gc.get_objects()),
    }


def soak(out: Path, *, rounds: int, side: int, steps: int, report: bool) -> list[dict[str, float]]:
    """Run the demo so often; what was measured after each round."""
    from stardist import data

    image, truth = data.test_image_nuclei_2d(return_mask=True)
    smaller: Any = lambda return_mask: (image[:, :side], truth[:, :side])  # noqa: E731
    data.test_image_nuclei_2d = smaller
    demo._Steps = InThisProcess  # type: ignore[misc]
    if not report:
        demo.MODELS = {"alpha-0.5": demo.MODELS["alpha-0.5"]}
        demo.write_demo_report = lambda folder, **_: folder  # type: ignore[assignment]
    rows = []
    for number in range(1, rounds + 1):
        started, cpu = time.monotonic(), time.process_time()
        demo.run_demo(out / str(number), steps={"pseudo": steps, "finetune": steps})
        row = {"round": number} | measure()
        row |= {"seconds": time.monotonic() - started, "cpu": time.process_time() - cpu}
        shutil.rmtree(out / str(number))
        rows.append(row)
        print(json.dumps({name: round(value, 1) for name, value in row.items()}), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--short", action="store_true", help="one model, no report of the demo")
    parser.add_argument("--trace", action="store_true", help="say where Python's memory grew")
    given = parser.parse_args()
    logging.getLogger("oce2stardist").setLevel(logging.ERROR)
    if given.trace:
        tracemalloc.start(12)
    shapes = {"side": given.side, "steps": given.steps, "report": not given.short}
    if given.trace:
        soak(given.out / "warm", rounds=2, **shapes)
        before = tracemalloc.take_snapshot()
        soak(given.out / "traced", rounds=given.rounds, **shapes)
        for one in tracemalloc.take_snapshot().compare_to(before, "traceback")[:12]:
            print(one, *one.traceback.format(), sep="\n")
        return
    soak(given.out, rounds=given.rounds, **shapes)


if __name__ == "__main__":
    main()
