"""How much faster two workers finish a grid than one, and whether the numbers are the same.

    python benchmarks/grid_workers.py DATA OUT [--steps 300]

Eight trainings of StarDist (alpha 0, one thread each) on the same data, first one at a time, then
two at a time. Prints Markdown. Run it on an idle machine of two cores or more.
"""

import argparse
import shutil
import time
from pathlib import Path

from oce2stardist.experiments.config import DataConfig, FractionsConfig
from oce2stardist.experiments.experiment import run_experiment
from oce2stardist.runs.cluster import ClusterSettings


def main() -> None:
    """Run the grid twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    config = FractionsConfig(
        data=(DataConfig(path=str(given.data), test_every=10),),
        fractions=(0.0025, 0.01, 0.1, 1.0),
        alphas=(0.0,),
        repeats=2,
        pseudo_alone=False,
        settings={"stardist": {"steps": given.steps}},
    )
    seconds, tables = {}, {}
    for workers in (1, 2):
        folder = given.out / str(workers)
        shutil.rmtree(folder, ignore_errors=True)
        started = time.monotonic()
        result = run_experiment(config, folder, where=ClusterSettings(workers=workers, threads=1))
        seconds[workers] = time.monotonic() - started
        tables[workers] = (folder / "results.csv").read_text()
        assert not result.unfinished, result.unfinished
    print("| workers | seconds |\n|---:|---:|")
    for workers, taken in seconds.items():
        print(f"| {workers} | {taken:.0f} |")
    print(f"\n{seconds[1] / seconds[2]:.2f} times as fast with two; tables ", end="")
    print("equal." if tables[1] == tables[2] else "DIFFER.")


if __name__ == "__main__":
    main()
