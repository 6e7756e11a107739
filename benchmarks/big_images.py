"""Label a mosaic of real nuclei in blocks: memory, time, seams, block sizes, a lost worker.

The mosaic's tiles are the 512x512 image of nuclei that stardist ships, each flipped and
brightened in a way of its own, with the true labels carried along.

    python benchmarks/big_images.py predict --model MODEL --side 16384 --work scratch
    python benchmarks/big_images.py pseudo --side 16384 --work scratch --options "--steps 600"

MODEL is a folder of `oce2stardist finetune`; --trained takes a run of `pseudo`. With either there
are further steps:

- compare: three sizes of blocks, one pass, a killed worker;
- growth: time by size, one worker and two;
- by-hand: scheduler and workers started by hand, one killed;
- tiles: F1 of tiles labelled by themselves;
- seams: F1 of cells at the borders of blocks and of the rest, once more;
- cost: one block alone, processor time.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tifffile
import zarr
from numpy.typing import NDArray

from oce2stardist.files.arrays import read_array
from oce2stardist.images.blocks import BlockGrid, Window, widen
from oce2stardist.labels import ids_at_edge

TILE = 512


def tile_at(image: NDArray[Any], row: int, column: int) -> tuple[NDArray[Any], float]:
    """Flip a tile (Y, X) by its place in the mosaic; also the gain that it has there."""
    rng = np.random.default_rng((row, column))
    down, across, turn = rng.integers(0, 2, 3)
    gain = float(rng.uniform(0.7, 1.3))
    tile = image[:: 1 - 2 * down, :: 1 - 2 * across]
    return (tile.T if turn else tile), gain


def mosaic(work: Path, side: int, name: str = "") -> Path:
    """Write image and truth of side x side pixels as OME-Zarr, if they are not there yet."""
    path = work / f"{name or f'mosaic-{side}'}.ome.zarr"
    if path.exists():
        return path
    from stardist.data import test_image_nuclei_2d

    image, mask = test_image_nuclei_2d(return_mask=True)
    root = zarr.open_group(str(path), mode="w", zarr_format=3)
    options: dict[str, Any] = {"shape": (side, side), "chunks": (1024, 1024)}
    stored = root.create_array("0", dtype="uint16", **options)
    truth = root.create_array("truth", dtype="int32", **options)
    per_band = 1024 // TILE
    for band in range(0, side, 1024):
        rows = np.zeros((1024, side), np.uint16)
        labels = np.zeros((1024, side), np.int32)
        for row in range(band // TILE, band // TILE + per_band):
            for column in range(side // TILE):
                place = (
                    slice(row * TILE - band, (row + 1) * TILE - band),
                    slice(column * TILE, (column + 1) * TILE),
                )
                pixels, gain = tile_at(image, row, column)
                rows[place] = np.minimum(gain * pixels, 65535).astype(np.uint16)
                cells = tile_at(mask, row, column)[0].astype(np.int32)
                first = (row * (side // TILE) + column) * (int(mask.max()) + 1)
                labels[place] = np.where(cells > 0, cells + first, 0)
        stored[band : band + 1024] = rows
        truth[band : band + 1024] = labels
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    root.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"],
                "datasets": [{"path": "0", "coordinateTransformations": scale}],
            }
        ],
    }
    return path


class Watch:
    """Peak of the resident memory of a process and all that it started, shared pages once (PSS)."""

    def __init__(self, pid: int) -> None:
        self.peak_rss = self.peak_pss = self.peak_of_one = 0
        self._process, self._ended = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            rss = pss = 0
            for one in family(self._process):
                with contextlib.suppress(psutil.Error):
                    memory = one.memory_full_info()
                    rss, pss = rss + memory.rss, pss + memory.pss
                    self.peak_of_one = max(self.peak_of_one, memory.rss)
            self.peak_rss, self.peak_pss = max(self.peak_rss, rss), max(self.peak_pss, pss)

    def stop(self) -> dict[str, float]:
        """Return the peaks in GB."""
        self._ended.set()
        self._thread.join()
        return {
            "peak_rss_gb": self.peak_rss / 1e9,
            "peak_pss_gb": self.peak_pss / 1e9,
            "peak_rss_of_one_gb": self.peak_of_one / 1e9,
        }


def family(process: psutil.Process) -> list[psutil.Process]:
    """List a process and its descendants."""
    with contextlib.suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return []


@dataclass(frozen=True)
class Job:
    """A command that labels an image in blocks, and how to read what it leaves."""

    name: str  # of the label image
    folder: str  # of labels and blocks, inside the output
    command: tuple[str, ...]

    @classmethod
    def of(cls, given: argparse.Namespace) -> "Job":
        """Take the model or run that the benchmark was given."""
        if given.model is not None:
            return cls("cells", ".", ("predict", "--model", given.model, *given.options))
        trained = () if given.trained is None else ("--trained", given.trained)
        return cls("pseudo", "pseudo/whole", ("pseudo", *trained, *given.options))

    def run(
        self,
        image: Path,
        output: Path,
        *,
        block: int,
        where: Sequence[str] = ("--workers", "2", "--threads", "1"),
        kill_after: int = 0,
        victims: Sequence[int] = (),
    ) -> dict[str, float]:
        """Run the command; with `kill_after`, kill a worker once so many blocks are found.

        `victims` are processes to choose from; default: those that the command started.
        """
        shutil.rmtree(output, ignore_errors=True)
        first, *options = self.command
        command = [
            *(sys.executable, "-m", "oce2stardist", first, str(image), *options),
            *("-o", str(output), "--block", str(block), *where, "-q"),
        ]
        start, load = time.perf_counter(), os.getloadavg()[0]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        watch = Watch(process.pid)
        killed = False
        while process.poll() is None:
            time.sleep(0.5)
            found = list((output / self.folder).glob(".*.blocks/found/0*.npz"))
            if kill_after and not killed and len(found) >= kill_after:
                choice = [psutil.Process(pid) for pid in victims]
                choice = choice or family(psutil.Process(process.pid))[1:]
                busiest = max(choice, key=lambda p: p.memory_info().rss)
                os.kill(busiest.pid, signal.SIGKILL)
                killed = True
        assert process.returncode == 0, process.returncode
        assert killed == bool(kill_after), "no worker was killed"
        seconds = time.perf_counter() - start
        return {
            "seconds": seconds,
            "load_before": load,
            "load_after": os.getloadavg()[0],
        } | watch.stop()

    def run_on_files(self, folder: Path, output: Path) -> Path:
        """Run the command on a folder of small images, once; returns the folder of labels."""
        first, *options = self.command
        if not output.exists():
            program = [sys.executable, "-m", "oce2stardist", first, str(folder), *options]
            given = [*program, "-o", str(output), "-q"]
            subprocess.run(given, check=True, stdout=subprocess.DEVNULL)
        return output / ("pseudo/labels" if self.name == "pseudo" else ".")

    def label(self, image: Path, output: Path, *, client: Any, block: int) -> None:
        """Do what the command does with blocks, in this process and on given workers."""
        from oce2stardist.blockwise.predict import predict_in_blocks
        from oce2stardist.blockwise.pseudo import label_whole_images
        from oce2stardist.config import Config
        from oce2stardist.images.crops import LargeImages
        from oce2stardist.images.sources import find_sources, open_in_blocks
        from oce2stardist.runners.pseudo import label_set

        shutil.rmtree(output, ignore_errors=True)
        if self.name == "cells":
            predict_in_blocks(image, output, model=Path(self.command[2]), client=client, side=block)
            return
        images = open_in_blocks(find_sources(image))
        whole = LargeImages.sample(images, seed=0).with_files(output / "crops")
        made = label_set(whole, output, config=Config(), trained=self.command[2]).made
        start = time.perf_counter()
        assert made is not None
        label_whole_images(made, output, client=client, side=block)
        print(f"blocks: {time.perf_counter() - start:.1f} s of {image.name}", flush=True)

    def labels(self, output: Path) -> Any:
        """Open the labels that the command wrote."""
        (store,) = (output / self.folder).glob("*.ome.zarr")
        return zarr.open_group(str(store), mode="r")[f"labels/{self.name}/0"]


def windows(side: int) -> Iterator[tuple[Window, Window]]:
    """Cut the mosaic to count cells in, with a margin wider than any cell."""
    grid = BlockGrid((side, side), 2048)
    for block in grid:
        yield block.core, widen(block.core, 256, grid.shape)


def seam_scores(truth: Any, labels: Any, side: int, block: int) -> dict[str, float]:
    """Compute F1, at IoU 0.5, of cells that touch a border between blocks, and of the others.

    The tiles of the mosaic cut cells, and no method finds halves of cells well: cells that touch
    a border between tiles are counted apart, so that each group at borders of blocks has one of
    its own kind to be compared with. Cells are true ones for misses and predicted ones for false
    finds; each counts in the window that holds the first corner of its box.
    """
    groups = ("block", "rest", "block_and_tile", "tile")
    counts = {group: np.zeros(3, int) for group in groups}  # matched, missed, false
    for own, (rows, columns) in windows(side):
        true, found = truth[rows, columns], labels[rows, columns]
        true_of, found_of = cells(true), cells(found)
        matched = matches(true, found)
        for kind, ids, hits in (
            ("missed", true_of, set(matched)),
            ("false", found_of, set(matched.values())),
        ):
            for cell, box in ids.items():
                corner = rows.start + box[0].start, columns.start + box[1].start
                if not all(one.start <= at < one.stop for one, at in zip(own, corner, strict=True)):
                    continue
                at_block, at_tile = (
                    crosses(box, rows.start, columns.start, every) for every in (block, TILE)
                )
                where = {
                    (True, True): "block_and_tile",
                    (True, False): "block",
                    (False, True): "tile",
                    (False, False): "rest",
                }[at_block, at_tile]
                if cell not in hits:
                    counts[where][1 if kind == "missed" else 2] += 1
                elif kind == "missed":
                    counts[where][0] += 1
    result: dict[str, float] = {}
    for where, (hit, missed, false) in counts.items():
        if hit + missed:
            result[f"f1_{where}"] = float(2 * hit / (2 * hit + missed + false))
            result[f"cells_{where}"] = int(hit + missed)
    hit, missed, false = sum(counts.values())
    return result | {"f1": float(2 * hit / (2 * hit + missed + false))}


def cells(labels: NDArray[np.int32]) -> dict[int, tuple[slice, slice]]:
    """Map ids to bounding boxes."""
    from skimage.measure import regionprops

    return {one.label: one.slice for one in regionprops(labels)}


def crosses(box: tuple[slice, slice], top: int, left: int, block: int) -> bool:
    """Tell whether a box touches a line between two blocks, or lies across it."""
    return any(
        (side.start + start) // block != (side.stop + start) // block
        or ((side.start + start) % block == 0 and side.start + start > 0)
        for side, start in zip(box, (top, left), strict=True)
    )


def matches(true: NDArray[np.int32], found: NDArray[np.int32]) -> dict[int, int]:
    """Pair true and found cells of an IoU above 0.5; no cell can have two such partners."""
    both = (true > 0) & (found > 0)
    pairs, overlap = np.unique(np.stack([true[both], found[both]]), axis=1, return_counts=True)
    sizes_true = dict(zip(*np.unique(true, return_counts=True), strict=True))
    sizes_found = dict(zip(*np.unique(found, return_counts=True), strict=True))
    return {
        int(one): int(other)
        for one, other, n in zip(*pairs, overlap, strict=True)
        if n / (sizes_true[one] + sizes_found[other] - n) > 0.5
    }


def compare_blocks(job: Job, work: Path) -> dict[str, Any]:
    """Compare blocks of three sizes with one pass over 2048x2048 pixels; kill a worker, too."""
    from sklearn.metrics import adjusted_rand_score

    image = mosaic(work, 2048)
    result: dict[str, Any] = {}
    found = {}
    for block in (512, 1024, 2048):
        output = work / f"{job.name}-2048-{block}"
        result[f"run_{block}"] = job.run(image, output, block=block)
        found[block] = job.labels(output)[:]
    killed = work / f"{job.name}-2048-killed"
    result["run_killed"] = job.run(image, killed, block=512, kill_after=8)
    result["killed_same_labels"] = bool((job.labels(killed)[:] == found[512]).all())
    once = at_once(job, image, work)
    for block, labels in found.items():
        result[f"ari_{block}_with_one_pass"] = adjusted_rand_score(once.ravel(), labels.ravel())
        result[f"identical_{block}_with_512"] = bool((labels == found[512]).all())
        result[f"objects_{block}"] = int(len(np.unique(labels)) - 1)
    return result | {"objects_one_pass": int(len(np.unique(once)) - 1)}


def lose_one_by_hand(job: Job, work: Path, block: int) -> dict[str, Any]:
    """Start a scheduler and two workers as processes of their own, and kill one half-way."""
    image = mosaic(work, 4096)
    straight = work / f"{job.name}-straight"
    job.run(image, straight, block=block)
    environment = os.environ | {
        "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
    }
    address = "tcp://127.0.0.1:18786"
    module = "import sys; from distributed.cli.dask_{0} import main; sys.exit(main())"
    with contextlib.ExitStack() as stack:

        def start(kind: str, *options: str) -> int:
            dask = [sys.executable, "-c", module.format(kind), *options]
            process = subprocess.Popen(
                dask, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process.pid

        start("scheduler", "--host", "127.0.0.1", "--port", "18786", "--no-dashboard")
        options = (address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
        workers = [start("worker", *options) for _ in range(2)]
        by_hand = work / f"{job.name}-by-hand"
        blocks = (4096 // block) ** 2
        run = job.run(
            image,
            by_hand,
            block=block,
            where=("--scheduler", address),
            kill_after=blocks // 2,
            victims=workers,
        )
    same = bool((job.labels(by_hand)[:] == job.labels(straight)[:]).all())
    objects = int(np.count_nonzero(np.unique(job.labels(by_hand)[:])))
    return run | {"killed_after_blocks": blocks // 2, "same_labels": same, "objects": objects}


def at_once(job: Job, image: Path, work: Path) -> NDArray[np.int32]:
    """Label an image as a whole, from a TIFF, as any small image is."""
    folder = work / "at-once"
    folder.mkdir(exist_ok=True)
    pixels = zarr.open_group(str(image), mode="r")["0"][:]
    tifffile.imwrite(folder / "whole.tif", pixels, compression="zlib")
    output = work / f"{job.name}-at-once"
    shutil.rmtree(output, ignore_errors=True)
    labels: NDArray[np.int32] = tifffile.imread(job.run_on_files(folder, output) / "whole.tif")
    return labels


def growth(job: Job, work: Path, block: int, sides: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Time images of several sizes, with one worker and two, once workers are warm.

    The smallest image is labelled first, so that neither their start counts, nor the import of
    libraries, nor what TensorFlow prepares for a shape of tiles.
    """
    from oce2stardist.blockwise.job import block_workers
    from oce2stardist.runs.cluster import ClusterSettings

    first = mosaic(work, sides[0])
    for workers in (1, 2):
        with block_workers(ClusterSettings(workers=workers, threads=1)) as (client, _):
            for _ in range(3):  # so that every worker has had a block
                job.label(first, work / "warm", client=client, block=block)
            for side in sides if workers == 2 else sides[1:3]:
                image = mosaic(work, side)
                start = time.perf_counter()
                job.label(image, work / "growth", client=client, block=block)
                seconds = time.perf_counter() - start
                yield {
                    "side": side,
                    "workers": workers,
                    "seconds": seconds,
                    "seconds_per_megapixel": seconds / (side**2 / 1e6),
                }


def tally(
    pairs: dict[int, int],
    true: NDArray[np.int32],
    found: NDArray[np.int32],
    *,
    left_out: tuple[set[int], set[int]],
) -> tuple[int, int, int]:
    """Count matched, missed and false cells, but for some true and some found ones.

    A pair of which either is left out is left out.
    """
    of_true, of_found = (set(np.unique(one[one > 0]).tolist()) for one in (true, found))
    gone_true = left_out[0] | {one for one, other in pairs.items() if other in left_out[1]}
    gone_found = left_out[1] | {other for one, other in pairs.items() if one in left_out[0]}
    hits = sum(one not in gone_true for one in pairs)
    return hits, len(of_true - gone_true) - hits, len(of_found - gone_found) - hits


def score_tiles(job: Job, work: Path, side: int, tiles: int) -> dict[str, float]:
    """Label some tiles, each by itself, and score them and the same places of the whole.

    Every tile is an image of its own, with its own percentiles. In the whole, cells that the
    tiles cut lie beside halves of others, and alone they do not, so F1 is also given for cells
    that touch no border of a tile.
    """
    image = zarr.open_group(str(work / f"mosaic-{side}.ome.zarr"), mode="r")
    folder, output = work / f"tiles-{side}", work / f"{job.name}-tiles-{side}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rng = np.random.default_rng(0)
    every = (side // TILE) ** 2
    chosen = np.sort(rng.choice(every, min(tiles, every), replace=False))
    places = {}
    for index in chosen.tolist():
        row, column = divmod(index, side // TILE)
        place = tuple(slice(at * TILE, (at + 1) * TILE) for at in (row, column))
        places[f"{row:02d}-{column:02d}"] = place
        tifffile.imwrite(folder / f"{row:02d}-{column:02d}.tif", image["0"][place])
    labels = job.run_on_files(folder, output)
    whole = job.labels(work / f"{job.name}-{side}-2")
    kinds = ("alone", "in_blocks", "alone_inside", "in_blocks_inside")
    counts = {kind: np.zeros(3, int) for kind in kinds}
    for name, place in places.items():
        true = image["truth"][place]
        for kind, found in (
            ("alone", tifffile.imread(labels / f"{name}.tif")),
            ("in_blocks", whole[place]),
        ):
            pairs = matches(true, found)
            counts[kind] += tally(pairs, true, found, left_out=(set(), set()))
            edge = (set(ids_at_edge(true).tolist()), set(ids_at_edge(found).tolist()))
            counts[f"{kind}_inside"] += tally(pairs, true, found, left_out=edge)
    return {
        f"f1_{kind}": float(2 * hit / (2 * hit + missed + false))
        for kind, (hit, missed, false) in counts.items()
    } | {"tiles": len(places)}


def cost_of_a_block(work: Path, model: str, block: int) -> dict[str, float]:
    """Measure, in this process and in processor time, a block that has others on all sides.

    Processor time is much the same on a busy machine; the first block, for which TensorFlow
    compiles, is not counted.
    """
    import resource

    from oce2stardist.blockwise.polygons import StarDistImage
    from oce2stardist.images.lazy import percentiles
    from oce2stardist.images.sources import list_images

    (image,) = list_images(mosaic(work, -(-3 * block // 1024) * 1024, "cost"))
    start = time.process_time()
    low, high = (tuple(map(float, one)) for one in percentiles(image))
    result = {"cpu_s_percentiles": time.process_time() - start}
    state = work / "cost"
    shutil.rmtree(state, ignore_errors=True)
    zarr.open_group(str(work / "cost-labels.zarr"), mode="w").create_array(
        "0", shape=image.shape[:2], chunks=(block, block), dtype="int32"
    )
    plane = StarDistImage(
        image=image,
        device="cpu",
        side=block,
        work=state,
        store=work / "cost-labels.zarr",
        arrays=("0",),
        known_reach=1.0,
        model=Path(model),
        low=low,
        high=high,
        nms_thresh=0.3,
    )
    start = time.process_time()
    reach = max(map(plane.look_around, plane.samples))
    result |= {"cpu_s_start_and_sample": time.process_time() - start, "reach": reach}
    middle = plane.grid.at(1, 1)
    for name in ("cpu_s_find_first", "cpu_s_find"):
        start, wall = time.process_time(), time.perf_counter()
        reach = max(reach, plane.find(middle, reach))
        result[name] = time.process_time() - start
        result[name.replace("cpu", "wall")] = time.perf_counter() - wall
    result["objects"] = len(read_array(plane.found(middle), "prob"))
    result["bytes_of_objects"] = plane.found(middle).stat().st_size
    result["load"] = os.getloadavg()[0]
    result["peak_rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    result["cpu_s_per_megapixel"] = result["cpu_s_find"] / (block**2 / 1e6)
    return result


def main() -> None:
    """Run what was asked for and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = ("predict", "pseudo", "compare", "growth", "by-hand", "tiles", "seams", "cost")
    parser.add_argument("step", choices=steps)
    parser.add_argument("--model", help="For predict, and the other steps on it.")
    parser.add_argument("--trained", help="For pseudo, and the other steps on it.")
    parser.add_argument("--work", type=Path, required=True, help="Folder for images and labels.")
    parser.add_argument("--side", type=int, default=16384, help="Of the mosaic.")
    parser.add_argument("--sides", type=int, nargs="+", default=[2048, 4096, 8192, 16384])
    parser.add_argument("--tiles", type=int, default=64)
    parser.add_argument("--block", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--options", type=shlex.split, default=[], help="More of the command, in one string."
    )
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    job = Job.of(chosen)
    output = chosen.work / f"{job.name}-{chosen.side}-{chosen.workers}"

    def say(result: Any) -> None:
        print(json.dumps(result, indent=1), flush=True)

    if chosen.step in ("predict", "pseudo"):
        where = ("--workers", str(chosen.workers), "--threads", "1")
        image = mosaic(chosen.work, chosen.side)
        run = job.run(image, output, block=chosen.block, where=where)
        say(run | {"seconds_per_megapixel": run["seconds"] / (chosen.side**2 / 1e6)})
    elif chosen.step == "growth":
        for result in growth(job, chosen.work, chosen.block, chosen.sides):
            say(result)
    elif chosen.step == "compare":
        say(compare_blocks(job, chosen.work))
    elif chosen.step == "by-hand":
        say(lose_one_by_hand(job, chosen.work, chosen.block))
    elif chosen.step == "tiles":
        say(score_tiles(job, chosen.work, chosen.side, chosen.tiles))
    elif chosen.step == "cost":
        say(cost_of_a_block(chosen.work, chosen.model, chosen.block))
    if chosen.step in ("predict", "pseudo", "seams"):
        truth = zarr.open_group(str(mosaic(chosen.work, chosen.side)), mode="r")["truth"]
        say(seam_scores(truth, job.labels(output), chosen.side, chosen.block))


if __name__ == "__main__":
    main()
