"""Quality of pseudo labels over wall-clock: whole runs of different effort, as Markdown.

    python benchmarks/time_to_quality.py IMAGES MASKS OUT

Every row is one `oce2stardist pseudo IMAGES` in a process of its own, from the images on disk to
labels, report and all, in a folder of its own under OUT, which must not exist. MASKS, the
complete truth, only scores. Nothing is given but the effort: training steps, noisy copies, and
how many other bandwidths are tried for the confidence.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from oce2stardist import evaluate_folders
from oce2stardist.config import Config


@dataclass(frozen=True)
class Effort:
    """What a run spends; the defaults are those of the product."""

    steps: int
    copies: int | None = None
    variants: int = 2

    def config(self) -> Config:
        return Config().replace(
            **{
                "embedding.steps": self.steps,
                "embedding.copies": self.copies,
                "pseudo.variants": self.variants,
                "pseudo.choose": self.variants > 0,
            }
        )


EFFORTS = (Effort(100, 4, 0), Effort(200, 4, 0), Effort(600))


def run(images: str, folder: Path, effort: Effort) -> float:
    """Run the command; returns its wall-clock seconds."""
    folder.mkdir(parents=True)
    config = folder / "effort.yaml"
    config.write_text(effort.config().to_yaml(), encoding="utf-8")
    command = [sys.executable, "-m", "oce2stardist", "pseudo", images, "-q"]
    started = time.monotonic()
    subprocess.run(
        [*command, "--config", str(config), "-o", str(folder / "run")],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - started


def main() -> None:
    """Run every effort and print its row at once: whoever waits sees how far it got."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("masks")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} must not exist; remove it or choose another.")
    print("| steps | copies | confidence | whole run, s | of it training, s | F1 | SEG |")
    print("|---|---|---|---|---|---|---|")
    for index, effort in enumerate(EFFORTS):
        folder = arguments.out / str(index)
        seconds = run(arguments.images, folder, effort)
        taken = yaml.safe_load((folder / "run" / "times.yaml").read_text(encoding="utf-8"))
        score = evaluate_folders(folder / "run" / "pseudo" / "labels", arguments.masks).pooled
        print(
            f"| {effort.steps} | {effort.copies or 'by size of the set'} "
            f"| {'yes' if effort.variants else 'no'} | {seconds:.0f} "
            f"| {taken['embedding_training']:.0f} | {score.f1:.3f} | {score.seg:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
