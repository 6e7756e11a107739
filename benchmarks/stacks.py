"""Score pseudo labels of stacks beside Otsu and a 3-D watershed.

    python benchmarks/stacks.py OUT [--data FOLDER] [--only NAME ...]

Labels without any annotation: the volume that stardist ships, the stacks of FOLDER (`images/x.tif`
and `masks/x.tif`, voxel sizes below) and a drawn scene of 40 ellipsoids in voxels of 4 x 1 x 1.
Every stack is a run of its own in OUT, which goes on after an interruption. Prints F1 (IoU 0.5) and
SEG in three dimensions, the diameter and the seconds, and writes OUT/NAME.png: sections with the
outlines of labels (left), baseline (middle) and truth (right).

The baseline gets the true median diameter: a Gaussian, Otsu's threshold, and a watershed of the
distance to the background from its peaks, half a diameter apart.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from scipy import ndimage as ndi
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from oce2stardist.drawn.volumes import place_ellipsoids
from oce2stardist.evaluation.scores import score_image
from oce2stardist.images.image_set import ImageSet
from oce2stardist.images.pixel_size import VoxelSize
from oce2stardist.images.stacks import Reading, read_stacks
from oce2stardist.labels import Image, Labels, object_sizes
from oce2stardist.reports.drawing.pictures import picture_of_labels
from oce2stardist.reports.stack_panels import StackCuts
from oce2stardist.runners.pseudo import make_pseudo_labels

_CUBE = VoxelSize(1.0, 1.0, 1.0)
_VOXELS = {"1135_mini": _CUBE, "1136_mini": _CUBE, "8_cell_stage": VoxelSize(3.0, 1.0, 1.0)}


@dataclass(frozen=True)
class Stack:
    """A stack (Z, Y, X, C), its true labels and the size of its voxels."""

    name: str
    image: Image
    truth: Labels
    voxel_size: VoxelSize

    @property
    def diameter(self) -> float:
        """True median diameter, in widths of a voxel."""
        sizes = object_sizes(self.truth)[1] * np.prod(self.voxel_size.in_pixels)
        return float(np.median(np.cbrt(6 * sizes / np.pi)))


def shipped() -> Stack:
    """Load the volume that stardist ships; its planes lie two pixels apart."""
    from stardist.data import test_image_nuclei_3d

    image, truth = test_image_nuclei_3d(return_mask=True)
    voxels = VoxelSize(2.0, 1.0, 1.0)
    return Stack("stardist", image[..., None].astype(np.float32), truth.astype(np.int32), voxels)


def ellipsoids(*, seed: int) -> Stack:
    """Draw 40 ellipsoids of 20 pixels of which every fourth plane is kept."""
    rng = np.random.default_rng(seed)
    truth = place_ellipsoids(
        (160, 160, 160), count=40, diameter=20, spread=0.05, elongation=1.3, rng=rng, apart=1.2
    )
    image = ndi.gaussian_filter((truth > 0).astype(np.float32), (2, 1, 1))
    image += rng.normal(0, 0.1, truth.shape)
    kept = np.ascontiguousarray(truth[::4])
    return Stack("ellipsoids", image[::4, ..., None], kept, VoxelSize(4.0, 1.0, 1.0))


def real(folder: Path) -> Iterator[Stack]:
    """Read the stacks of a folder."""
    for name, voxels in _VOXELS.items():
        images = read_stacks(folder / "images" / f"{name}.tif", Reading("ZYX", voxels)).images
        truth = tifffile.imread(folder / "masks" / f"{name}.tif").astype(np.int32)
        yield Stack(name, images[name], truth, voxels)


def baseline(stack: Stack) -> Labels:
    """Segment without learning."""
    sides = np.array(stack.voxel_size.in_pixels)
    smooth = ndi.gaussian_filter(stack.image.mean(axis=-1), 0.07 * stack.diameter / sides)
    inside = smooth > threshold_otsu(smooth)
    depth = ndi.distance_transform_edt(inside, sampling=sides)
    # peaks are looked for in voxels: a plane counts as so many pixels
    apart = np.maximum(1, np.round(stack.diameter / 4 / sides)).astype(int)
    peaks = peak_local_max(
        ndi.gaussian_filter(depth, 0.07 * stack.diameter / sides),
        footprint=np.ones(2 * apart + 1),
        labels=inside.astype(np.int32),
        exclude_border=False,
    )
    seeds = np.zeros(stack.truth.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-depth, seeds, mask=inside), np.int32)


def draw(path: Path, stack: Stack, found: Labels, other: Labels) -> None:
    """Draw three sections, each with all three labels."""
    cuts = StackCuts.through_objects(stack.truth, stack.voxel_size.in_pixels)
    rows = []
    for axis in range(3):
        image = cuts.cut(stack.image, axis)
        every = (found, other, stack.truth)
        rows.append(
            np.concatenate([picture_of_labels(image, cuts.cut(one, axis)) for one in every], 1)
        )
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 6), (0, width - row.shape[1]), (0, 0))) for row in rows]
    path.write_bytes(imagecodecs.png_encode(np.concatenate(padded)))


def main() -> None:
    """Read the arguments, label, score and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", nargs="*")
    given = parser.parse_args()
    stacks = [ellipsoids(seed=0), shipped(), *(real(given.data) if given.data else ())]
    print("| stack | cells | F1 | SEG | baseline F1 | SEG | diameter | true | trusted | seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for stack in stacks:
        if given.only and stack.name not in given.only:
            continue
        images = ImageSet({}, {stack.name: stack.image}, voxel_sizes={stack.name: stack.voxel_size})
        result = make_pseudo_labels(images, given.out / stack.name)
        found, other = result.labels[stack.name], baseline(stack)
        mine, theirs = score_image(found, stack.truth), score_image(other, stack.truth)
        draw(given.out / f"{stack.name}.png", stack, found, other)
        print(
            f"| {stack.name} | {mine.n_true} | {mine.f1:.3f} | {mine.seg:.3f} | {theirs.f1:.3f} | "
            f"{theirs.seg:.3f} | {result.parameters['diameter']['value']:.1f} | "
            f"{stack.diameter:.1f} | {result.trust.trusted if result.trust else ''} | "
            f"{sum(result.seconds.values()):.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
