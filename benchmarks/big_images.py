"""Predict a mosaic of real nuclei in blocks: memory, time, seams, block sizes, a lost worker.

The mosaic's tiles are the 512x512 image of nuclei that stardist ships, each flipped and
brightened in a way of its own, with the true labels carried along.

    python benchmarks/big_images.py --model MODEL --side 16384 --work scratch
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr
from numpy.typing import NDArray

TILE = 512


def tile_at(image: NDArray[Any], row: int, column: int) -> tuple[NDArray[Any], float]:
    """Flip a tile (Y, X) by its place in the mosaic; also the gain that it has there."""
    rng = np.random.default_rng((row, column))
    down, across, turn = rng.integers(0, 2, 3)
    gain = float(rng.uniform(0.7, 1.3))
    tile = image[:: 1 - 2 * down, :: 1 - 2 * across]
    return (tile.T if turn else tile), gain


def write_mosaic(path: Path, side: int) -> None:
    """Write image and truth of side x side pixels as OME-Zarr."""
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


def predict(
    image: Path, output: Path, model: str, *, block: int, workers: int, kill_after: int = 0
) -> dict[str, float]:
    """Run the command; with `kill_after`, kill a worker once so many blocks are found."""
    shutil.rmtree(output, ignore_errors=True)
    command = [
        *(sys.executable, "-m", "oce2stardist", "predict", str(image), "--model", model),
        *("-o", str(output), "--block", str(block), "--workers", str(workers)),
        *("--threads", "1", "-q"),
    ]
    start, load = time.perf_counter(), os.getloadavg()[0]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watch = Watch(process.pid)
    killed = False
    while process.poll() is None:
        time.sleep(0.5)
        found = list(output.glob(".*.blocks/found/0*.npz"))
        if kill_after and not killed and len(found) >= kill_after:
            busiest = max(
                family(psutil.Process(process.pid))[1:], key=lambda p: p.memory_info().rss
            )
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


def labels_of(output: Path) -> Any:
    """Open the labels that `predict` wrote."""
    (store,) = output.glob("*.ome.zarr")
    return zarr.open_group(str(store), mode="r")["labels/cells/0"]


def windows(side: int, step: int = 2048, overlap: int = 256) -> Iterator[tuple[slice, slice]]:
    """Cut the mosaic to count cells in, a margin more than each cell at the far sides."""
    for top in range(0, side, step):
        for left in range(0, side, step):
            yield (
                slice(top, min(side, top + step + overlap)),
                slice(left, min(side, left + step + overlap)),
            )


def seam_scores(truth: Any, labels: Any, side: int, block: int) -> dict[str, float]:
    """Compute F1, at IoU 0.5, of cells that touch a border between blocks, and of the rest.

    Cells are true ones for misses and predicted ones for false finds; each counts in the window
    that holds the first corner of its box.
    """
    counts = {"border": np.zeros(3, int), "rest": np.zeros(3, int)}  # matched, missed, false
    for rows, columns in windows(side):
        true, found = truth[rows, columns], labels[rows, columns]
        own = (min(side - rows.start, 2048), min(side - columns.start, 2048))
        true_of, found_of = cells(true), cells(found)
        matched = matches(true, found)
        for kind, ids, hits in (
            ("missed", true_of, set(matched)),
            ("false", found_of, set(matched.values())),
        ):
            for cell, box in ids.items():
                corner = box[0].start, box[1].start
                cut = (corner[0] == 0 and rows.start > 0) or (corner[1] == 0 and columns.start > 0)
                if cut or corner[0] >= own[0] or corner[1] >= own[1]:
                    continue
                where = "border" if crosses(box, rows.start, columns.start, block) else "rest"
                if cell not in hits:
                    counts[where][1 if kind == "missed" else 2] += 1
                elif kind == "missed":
                    counts[where][0] += 1
    result: dict[str, float] = {}
    for where, (hit, missed, false) in counts.items():
        result[f"f1_{where}"] = 2 * hit / (2 * hit + missed + false)
        result[f"cells_{where}"] = int(hit + missed)
    hit, missed, false = sum(counts.values())
    return result | {"f1": 2 * hit / (2 * hit + missed + false)}


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


def compare_blocks(work: Path, model: str) -> dict[str, Any]:
    """Compare blocks of three sizes with one pass over 2048x2048 pixels; kill a worker, too."""
    from sklearn.metrics import adjusted_rand_score

    image = work / "small.ome.zarr"
    write_mosaic(image, 2048)
    result: dict[str, Any] = {}
    found = {}
    for block in (512, 1024, 2048):
        result[f"run_{block}"] = predict(
            image, work / f"small-{block}", model, block=block, workers=2
        )
        found[block] = labels_of(work / f"small-{block}")[:]
    result["run_killed"] = predict(
        image, work / "small-killed", model, block=512, workers=2, kill_after=8
    )
    killed = labels_of(work / "small-killed")[:]
    result["killed_same_labels"] = bool((killed == found[512]).all())

    from oce2stardist.io import normalise_percentiles
    from oce2stardist.stardist_model.network import open_model
    from oce2stardist.stardist_model.predict import predict_labels

    pixels = zarr.open_group(str(image), mode="r")["0"][:].astype(np.float32)[..., None]
    once = predict_labels(open_model(Path(model)), normalise_percentiles(pixels))
    for block, labels in found.items():
        result[f"ari_{block}_with_one_pass"] = adjusted_rand_score(once.ravel(), labels.ravel())
        result[f"identical_{block}_with_512"] = bool((labels == found[512]).all())
        result[f"objects_{block}"] = int(len(np.unique(labels)) - 1)
    return result | {"objects_one_pass": int(len(np.unique(once)) - 1)}


def cost_of_a_block(work: Path, model: str, block: int) -> dict[str, float]:
    """Measure, in this process and in processor time, a block that has others on all sides.

    Processor time is much the same on a busy machine; the first block, for which TensorFlow
    compiles, is not counted.
    """
    import resource

    from oce2stardist.big_images import list_images, percentiles
    from oce2stardist.blocks import BlockGrid
    from oce2stardist.runners import block_tasks

    image_path = work / "cost.ome.zarr"
    if not image_path.exists():
        write_mosaic(image_path, -(-3 * block // 1024) * 1024)
    (image,) = list_images(image_path)
    start = time.process_time()
    low, high = (tuple(map(float, one)) for one in percentiles(image))
    result = {"cpu_s_percentiles": time.process_time() - start}
    state = work / "cost"
    shutil.rmtree(state, ignore_errors=True)
    zarr.open_group(str(work / "cost-labels.zarr"), mode="w").create_array(
        "0", shape=image.shape[:2], chunks=(block, block), dtype="int32"
    )
    plane = block_tasks.Plane(
        image, Path(model), "cpu", low, high, block, 0.3, state, work / "cost-labels.zarr", ("0",)
    )
    start = time.process_time()
    reach = block_tasks.look_around(plane)
    result |= {"cpu_s_start_and_sample": time.process_time() - start, "reach": reach}
    middle = BlockGrid(image.shape[:2], block).at(1, 1)
    for name in ("cpu_s_find_first", "cpu_s_find"):
        start, wall = time.process_time(), time.perf_counter()
        reach = max(reach, block_tasks.find_block(plane, middle, reach))
        result[name] = time.process_time() - start
        result[name.replace("cpu", "wall")] = time.perf_counter() - wall
    with np.load(plane.found(middle)) as found:
        result["objects"] = len(found["prob"])
    result["bytes_of_objects"] = plane.found(middle).stat().st_size
    result["load"] = os.getloadavg()[0]
    result["peak_rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    result["cpu_s_per_megapixel"] = result["cpu_s_find"] / (block**2 / 1e6)
    return result


def main() -> None:
    """Run what was asked for and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--work", type=Path, required=True, help="Folder for images and labels.")
    parser.add_argument("--side", type=int, default=16384, help="Of the mosaic; 0 leaves it out.")
    parser.add_argument("--block", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--compare", action="store_true", help="Also compare sizes of blocks.")
    parser.add_argument("--cost", action="store_true", help="Also measure one block alone.")
    chosen = parser.parse_args()
    if chosen.cost:
        print(json.dumps(cost_of_a_block(chosen.work, chosen.model, chosen.block), indent=1))
    if chosen.compare:
        print(json.dumps(compare_blocks(chosen.work, chosen.model), indent=1), flush=True)
    if chosen.side:
        image = chosen.work / f"mosaic-{chosen.side}.ome.zarr"
        if not image.exists():
            write_mosaic(image, chosen.side)
        output = chosen.work / f"labels-{chosen.side}"
        run = predict(image, output, chosen.model, block=chosen.block, workers=chosen.workers)
        run["seconds_per_megapixel"] = run["seconds"] / (chosen.side**2 / 1e6)
        print(json.dumps(run, indent=1), flush=True)
        truth = zarr.open_group(str(image), mode="r")["truth"]
        scores = seam_scores(truth, labels_of(output), chosen.side, chosen.block)
        print(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main()
