"""List what one must know of a StarDist model, besides its weights, to use it."""

import json
from dataclasses import dataclass

LOST = {
    "stardist": (
        "the percentiles 1 and 99.8 by which images are to be normalised",
        "the pixel size of the images",
        "a scale other than 1 (scale.json): plain stardist has to be given it, see the README",
    ),
    "onnx": (
        "the step from prob and dist to labels: do it with stardist, as the README shows",
        "the normalisation itself: percentiles are in the metadata, images must be scaled before",
    ),
    "savedmodel": (
        "percentiles, thresholds, scale and pixel size: they are in the README alone",
        "training: it can't be continued from this file",
    ),
    "bioimageio": (
        "the step from prob and dist to labels: it is in the thresholds of config.stardist and "
        "in the README alone",
        "a SavedModel, which QuPath's import of such packages wants: export to onnx for QuPath",
    ),
}
"""What the formats cannot carry."""


@dataclass(frozen=True)
class Facts:
    """A model apart from its weights."""

    name: str
    channels: int
    n_rays: int
    grid: tuple[int, int]
    """Pixels of the image per pixel of the prediction, (y, x)."""
    multiple: int
    """Pixels of which the height and width of what goes in must be multiples."""
    prob_thresh: float
    nms_thresh: float
    pixel_size: tuple[float, float] | None
    """Micrometres (y, x), of images like those it was trained on."""
    scale: float = 1.0
    """By what an image is zoomed before it goes in; outlines are brought back afterwards."""
    working_diameter: float | None = None
    """Of the median cell after that, pixels; None where nobody knows."""
    per_image: bool = False
    """Whether every image has a scale of its own, by its cells; `scale` is a guess then."""
    percentiles: tuple[float, float] = (1.0, 99.8)
    """Of each channel of an image; they become 0 and 1."""

    def metadata(self, *, axes: str) -> dict[str, str]:
        """Return what goes into ``metadata_props`` of an ONNX file, each value as JSON.

        `axes` are those of its input, such as ``BCYX``.
        """
        values = {
            "axes": axes,
            "channels": self.channels,
            "normalisation": "per image and channel: percentiles become 0 and 1, no clipping",
            "percentiles": self.percentiles,
            "height_and_width_multiple_of": self.multiple,
            "grid": self.grid,
            "n_rays": self.n_rays,
            "prob_thresh": self.prob_thresh,
            "nms_thresh": self.nms_thresh,
            "pixel_size_um": self.pixel_size,
            "scale": self.scale,
            "working_diameter_px": self.working_diameter,
        }
        return {name: json.dumps(value) for name, value in values.items()}
