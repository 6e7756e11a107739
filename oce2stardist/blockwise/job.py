"""Work on the blocks of large images with dask workers; goes on after a kill.

What is known of each block lies in ``OUT/.<stem>.blocks`` until the image is done. Five steps, each
of which may be repeated: find the objects of every block, drop what two blocks both found,
number by position, draw, and make the coarser levels.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, KilledWorker, wait

from oce2stardist.blockwise.image import BlockwiseImage
from oce2stardist.errors import InputError
from oce2stardist.files.arrays import read_array
from oce2stardist.files.atomic import replacing, write_text
from oce2stardist.images.blocks import Block, BlockGrid
from oce2stardist.images.lazy import LazyImage
from oce2stardist.images.ome_zarr import read_attributes
from oce2stardist.images.zarr_labels import create_labels
from oce2stardist.runs.cluster import ClusterSettings, connected, limited_to
from oce2stardist.runs.determinism import fixed_threads
from oce2stardist.runs.interruption import Interrupted, stop_on_signal
from oce2stardist.runs.progress import Reporter

WORKER_MEMORY = 1_400_000_000
"""Bytes at which a worker on this machine is started anew."""

_LARGEST_CHUNK = 1024
_LOOK_EVERY = 1.0
_AHEAD = 2
"""Blocks handed out for each worker thread: one to work on, one to go on with."""

_log = logging.getLogger(__name__)


@contextmanager
def block_workers(
    where: ClusterSettings, *, deterministic: bool = False
) -> Iterator[tuple[Client, Callable[[], bool]]]:
    """Yield a client whose workers go through blocks, and what tells whether the user stopped."""
    environment = limited_to(fixed_threads(deterministic) or where.cell_threads)
    with (
        connected(where, memory=WORKER_MEMORY, environment=environment) as client,
        stop_on_signal() as should_stop,
    ):
        yield client, should_stop


def label_in_blocks(
    planes: Sequence[BlockwiseImage],
    output: Path,
    *,
    name: str,
    client: Client,
    reporter: Reporter,
    should_stop: Callable[[], bool],
) -> dict[str, int]:
    """Label the time points of one stored image, whose labels share one file or array.

    Parameters
    ----------
    planes : sequence of BlockwiseImage
        One for each time point; their `store` is that of `store_of`.
    output : Path
        Folder for ``<stem>.ome.zarr`` with the labels, or ``<stem>.tif`` of a TIFF; and for what
        is known of blocks while it works.
    name : str
        Of the label image inside the ``labels`` group.
    client : distributed.Client
        Its workers must see the same folders.
    should_stop : callable
        Looked at every second.

    Returns
    -------
    dict of image name to number of objects

    Raises
    ------
    InputError
        If the labels would replace those of others, or a block needs more memory than workers
        have.
    Interrupted
        If `should_stop` said so; the same call goes on from there.
    """
    job = _Job(planes, output, name, client, reporter, should_stop)
    counts = job.finished()
    return job.run() if counts is None else counts


def work_folder(image: LazyImage, output: Path) -> Path:
    """Name the folder of what is known of an image's blocks while they are worked on."""
    return output / f".{image.stem}.blocks"


def plane_folder(image: LazyImage, output: Path) -> Path:
    """Name the folder of what is known of one time point's blocks."""
    work = work_folder(image, output)
    return work if image.time is None else work / f"t{image.time:06d}"


def store_of(image: LazyImage, output: Path, *, in_place: bool) -> Path:
    """Choose the zarr group that holds the labels of an image, those of a TIFF for a while."""
    if not image.path.is_dir():
        if in_place:
            raise InputError(
                f"--in-place needs an OME-Zarr, into which labels can be written. Got {image.path};"
                " leave it out."
            )
        return work_folder(image, output) / "labels.zarr"
    if in_place:
        return image.path
    store = output / f"{image.stem}.ome.zarr"
    if store == image.path or store in image.path.parents:
        raise InputError(
            f"labels must not replace their image. Got {store} for both; pass another folder, or "
            "--in-place to write into the image's labels group."
        )
    return store


def _plan(planes: Sequence[BlockwiseImage]) -> str:
    """Hash all that the labels depend on, and the blocks; of the image, what tells it apart."""
    first = planes[0]
    # Not where the labels lie: files of the same labels are to be the same.
    content: list[Any] = [first.side, first.store == first.image.path]
    for plane in planes:
        image = plane.image
        content += [str(image.path), image.array, image.axes, image.stored, image.fixed]
        content += plane.identity
        if image.path.is_file():
            content += [image.path.stat().st_size, image.path.stat().st_mtime_ns]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass
class _Job:
    """The work on all time points of one stored image; the parameters of `label_in_blocks`."""

    planes: Sequence[BlockwiseImage]
    output: Path
    name: str
    client: Client
    reporter: Reporter
    should_stop: Callable[[], bool]

    def __post_init__(self) -> None:
        image, self.store = self.planes[0].image, self.planes[0].store
        self.work, self.plan = work_folder(image, self.output), _plan(self.planes)
        self.into_tiff = image.path.is_file()
        self.tiffs = [self.output / f"{plane.image.name}.tif" for plane in self.planes]

    def finished(self) -> dict[str, int] | None:
        """Return the numbers of objects if an earlier call finished just this."""
        if self.into_tiff:
            return _read_counts(self.tiffs, self.plan)
        group = self.store / "labels" / self.name
        record = _zarr_record(group)
        if record is None:
            if group.exists() and self.store == self.planes[0].image.path:
                raise InputError(
                    f"labels must not replace those of others. Got {group}, which oce2stardist "
                    "did not write; rename it or leave out --in-place."
                )
            return None
        if record.get("plan") == self.plan and "objects" in record:
            return dict(record["objects"])
        return None

    def run(self) -> dict[str, int]:
        """Do what is left to do."""
        arrays = self._begin()
        planes = [replace(plane, arrays=arrays) for plane in self.planes]
        counts = {}
        for plane in planes:
            counts[plane.image.name] = self._label(plane)
            plane.finish(self.output)
        if self.into_tiff:
            for plane, path in zip(planes, self.tiffs, strict=True):
                _write_tiff(path, plane, self.plan, counts[plane.image.name])
        else:
            _record(self.store, self.name, {"plan": self.plan, "objects": counts})
        shutil.rmtree(self.work)
        return counts

    def _begin(self) -> tuple[str, ...]:
        """Take over what an earlier call left, or start anew; return the label arrays."""
        note = self.work / "plan.json"
        if note.exists():
            left = json.loads(note.read_text(encoding="utf-8"))
            if left["plan"] == self.plan and (self.store / "labels" / self.name).exists():
                return tuple(left["arrays"])
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        image, side, n_times = self.planes[0].image, self.planes[0].side, len(self.planes)
        version = "0.5" if self.into_tiff else read_attributes(image.path)[1]
        arrays = create_labels(
            self.store, self.name, image, n_times=n_times, chunk=_chunk(side), version=version
        )
        if not self.into_tiff:
            _record(self.store, self.name, {"plan": "unfinished"})
        write_text(note, json.dumps({"plan": self.plan, "arrays": arrays}))
        return tuple(arrays)

    def _label(self, plane: BlockwiseImage) -> int:
        """Go through the five steps for one time point; return the number of objects."""
        blocks = _left(plane.grid, plane.work / "found")
        if blocks:
            samples = [(plane, sample) for sample in plane.samples]
            expected = run_all(self.client, type(plane).look_around, samples, self.should_stop)
            # The same for every block, whoever comes first: another window sums in another order.
            # A block with a larger cell than expected is worked on twice.
            reach = max([plane.known_reach, *expected])
            calls = [(block, reach) for block in blocks]
            self._run("Finding cells in", plane, type(plane).find, calls)
        reach = max(float(read_array(plane.found(block), "reach")) for block in plane.grid)

        calls = [(block, reach) for block in _left(plane.grid, plane.work / "kept")]
        gone = sum(self._run("Comparing blocks of", plane, type(plane).drop_doubles, calls))
        _log.debug("%s: %d objects were found by two blocks", plane.image.name, gone)
        total = plane.number_rows()

        calls = [(block, reach) for block in _left(plane.grid, plane.work / "drawn")]
        self._run("Drawing", plane, type(plane).draw, calls)
        shape = plane.image.shape[:2]
        for level in range(1, len(plane.arrays)):
            shape = (-(-shape[0] // 2), -(-shape[1] // 2))
            regions = BlockGrid(shape, 2 * _chunk(plane.side))
            coarser = [(level, region.core) for region in regions]
            self._run(f"Level {level} of", plane, type(plane).halve, coarser)
        return total

    def _run(
        self,
        what: str,
        plane: BlockwiseImage,
        method: Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
    ) -> list[Any]:
        """Call a method of the plane on the workers, with progress; return all results."""
        results = []
        plane_calls = [(plane, *call) for call in calls]
        with self.reporter.task(f"{what} {plane.image.name}", len(calls)) as advance:
            for result in run_all(self.client, method, plane_calls, self.should_stop):
                results.append(result)
                advance(len(results), "")
        return results


def _chunk(side: int) -> int:
    """Choose chunks that no two blocks share."""
    return _LARGEST_CHUNK if side % _LARGEST_CHUNK == 0 else side


def _left(grid: BlockGrid, folder: Path) -> list[Block]:
    """List the blocks without a file."""
    done = {name.split(".")[0] for name in os.listdir(folder)} if folder.exists() else set()
    return [block for block in grid if block.name not in done]


def run_all(
    client: Client,
    function: Callable[..., Any],
    calls: Iterable[tuple[Any, ...]],
    should_stop: Callable[[], bool],
) -> Iterator[Any]:
    """Call a function on the workers, a few calls ahead of them; yield results as they come.

    A call whose worker is lost is made again by another.
    """
    waiting = iter(calls)
    running: set[Any] = set()
    try:
        while True:
            threads = sum(client.nthreads().values())
            while len(running) < max(1, _AHEAD * threads):
                call = next(waiting, None)
                if call is None:
                    break
                running.add(client.submit(function, *call, pure=False))
            if not running:
                return
            try:
                done, running = wait(running, timeout=_LOOK_EVERY, return_when="FIRST_COMPLETED")
            except TimeoutError:
                done = set()
            for future in done:
                try:
                    yield future.result()
                except KilledWorker as error:
                    raise InputError(
                        "a block must fit into a worker's memory. Got several workers lost at the "
                        "same block; pass a smaller --block, or give workers more memory."
                    ) from error
            if should_stop():
                raise Interrupted("Stopped. The same command goes on from there.")
    finally:
        client.cancel(list(running))


def _record(store: Path, name: str, content: dict[str, Any]) -> None:
    """Keep, in the label image's attributes, what made it."""
    import zarr

    group = zarr.open_group(str(store), mode="r+")[f"labels/{name}"]
    group.attrs["oce2stardist"] = content


def _zarr_record(group: Path) -> dict[str, Any] | None:
    import zarr

    if not group.exists():
        return None
    record = dict(zarr.open_group(str(group), mode="r").attrs).get("oce2stardist")
    return dict(record) if isinstance(record, dict) else None


def _write_tiff(path: Path, plane: BlockwiseImage, plan: str, count: int) -> None:
    """Write the labels as a tiled int32 TIFF, tile after tile."""
    import tifffile
    import zarr

    labels: Any = zarr.open_group(str(plane.store), mode="r")[plane.arrays[0]]
    shape = plane.image.shape[:2]
    tile = 1024 if min(shape) >= 1024 else 256

    def tiles() -> Iterator[np.ndarray]:
        for block in BlockGrid(shape, tile):
            values = np.zeros((tile, tile), np.int32)
            part = labels[plane.at(block.core)]
            values[: part.shape[0], : part.shape[1]] = part
            yield values

    size = plane.image.pixel_size
    resolution: dict[str, Any] = {}
    if size is not None:
        resolution = {"resolution": (1e4 / size.x, 1e4 / size.y), "resolutionunit": "CENTIMETER"}
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            tiles(),
            shape=shape,
            dtype=np.int32,
            tile=(tile, tile),
            bigtiff=4 * shape[0] * shape[1] > 2**31,
            photometric="minisblack",
            compression="zlib",
            metadata={"axes": "YX", "plan": plan, "objects": count},
            **resolution,
        )


def _read_counts(paths: Sequence[Path], plan: str) -> dict[str, int] | None:
    import tifffile

    counts = {}
    for path in paths:
        if not path.exists():
            return None
        with tifffile.TiffFile(path) as file:
            content: dict[str, Any] = (file.shaped_metadata or ({},))[0]
        if content.get("plan") != plan:
            return None
        counts[path.stem] = int(content["objects"])
    return counts
