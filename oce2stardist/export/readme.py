"""Write read-me files that say how to load an exported model."""

from oce2stardist.export.facts import Facts

_FACTS = """\
| | |
|---|---|
| input | float32, axes {axes} with {channels} channel(s); height and width multiples of {multiple} |
| normalisation | each channel of each image: percentile {low:g} becomes 0, percentile {high:g} becomes 1 |
| grid | {grid[0]} × {grid[1]} pixels of the image per pixel of the prediction |
| rays | {n_rays} |
| probability threshold | {prob_thresh:g} |
| overlap (NMS) threshold | {nms_thresh:g} |
| pixel size of the images | {pixel_size} |
| scale | {scale:g}: images are zoomed by it before they go in (stardist: `scale={scale:g}`){whose_scale} |
"""  # noqa: E501 (lines of a table)

_OWN_SCALE = "; every image has its own"
_OTHER_CELLS = "; for other cells {0:g} / their median diameter in pixels"

_ONNX = """\
# {name}: a StarDist model as ONNX

{facts}
All of this is in the `metadata_props` of the file, too, each value as JSON.

Outputs: `prob`, the object probability, and `dist`, the distances to the outline along the rays in
pixels, both B, C, Y, X at grid resolution. What ONNX cannot carry is the step from there to labels:

```python
import json

import numpy as np
import onnxruntime
from scipy import ndimage
from stardist import polygons_to_label
from stardist.nms import non_maximum_suppression_sparse

session = onnxruntime.InferenceSession("{file}")
facts = session.get_modelmeta().custom_metadata_map
facts = {{name: json.loads(value) for name, value in facts.items()}}

# image: array of shape (Y, X, C)
low, high = np.percentile(image, facts["percentiles"], axis=(0, 1))
scaled = ((image - low) / (high - low)).astype(np.float32)
scale = facts["scale"]
scaled = ndimage.zoom(scaled, (scale, scale, 1), order=1)
multiple = facts["height_and_width_multiple_of"]
padding = [(0, -side % multiple) for side in scaled.shape[:2]]
padded = np.pad(scaled, [*padding, (0, 0)], mode="reflect")
prob, dist = session.run(["prob", "dist"], {{"input": padded.transpose(2, 0, 1)[None]}})
prob, dist = prob[0, 0], np.maximum(dist[0].transpose(1, 2, 0), 1e-3)
found = np.pad(prob[2:-2, 2:-2] > facts["prob_thresh"], 2)  # as in StarDist, none at the rim
points = np.argwhere(found) * facts["grid"]
inside = (points < scaled.shape[:2]).all(axis=1)
points, prob, dist, _ = non_maximum_suppression_sparse(
    dist[found][inside], prob[found][inside], points[inside], nms_thresh=facts["nms_thresh"]
)
points, back = points / scale, (1 / scale, 1 / scale)
labels = polygons_to_label(dist, points, shape=image.shape[:2], prob=prob, scale_dist=back)
```

## QuPath

QuPath's StarDist extension runs the file with OpenCV: a script names it and the same numbers.

```groovy
import qupath.ext.stardist.StarDist2D

{groovy_pixel_size}def stardist = StarDist2D.builder("{file}")
    .threshold({prob_thresh:g})
    .normalizePercentiles({low:g}, {high:g})
    .pixelSize(pixelSize)
    .build()
stardist.detectObjects(getCurrentImageData(), getSelectedObjects())
```

An image of other than {channels} channel(s) needs `.channels(...)`, too. QuPath takes percentiles
tile by tile and has no overlap threshold, so its cells differ a little from those of
`oce2stardist predict`. OpenCV 4.6.0 and 4.11.0 gave the model's own output for such files; QuPath
itself was not run.
"""

_PIXELS_KNOWN = "def pixelSize = {0:g}  // µm that the network sees as one pixel\n"
_PIXELS_UNKNOWN = """\
// The model was trained on images whose pixel size is not known: yours must show cells as large.
def pixelSize = getCurrentServer().getPixelCalibration().getAveragedPixelSize() / {0:g}
"""

_SAVED_MODEL = """\
# {name}: a StarDist model as TensorFlow SavedModel

{facts}
The zip holds what StarDist's own `export_TF` writes: one input, one output of the size of the
input with 1 + {n_rays} channels, the object probability (on every grid point, 0 between them) and
the distances to the outline along the rays in pixels. Weights are constants: TensorFlow 1 reads it.

In Fiji: Plugins > StarDist > StarDist 2D, *Model (.zip) from File*, normalise with percentiles
{low:g} and {high:g}, and set the thresholds above, which the file cannot carry.{fiji_scale}
TensorFlow 1.13.2 and 1.15.5 gave the model's own output for such files; Fiji, which has 1.12 to
1.15, was not run.

In Python: unzip it; `tf.saved_model.load(folder).signatures["serving_default"]`, or in TensorFlow
1.x `tf.saved_model.load(session, ["serve"], folder)`.
"""

_FIJI_SCALE = """
Before that, *Image > Scale...* with {0:g} for X and Y, bilinear; afterwards scale the label image
by {1:g}, interpolation *None*.
"""

_BIOIMAGEIO = """\
# {name}

A StarDist model (https://arxiv.org/abs/1806.03535) exported by oce2stardist.

{facts}
The output, at grid resolution, has the object probability in its first channel and the distances
to the outline along the rays in the others. `config.stardist` holds the thresholds; stardist's
`non_maximum_suppression` and `polygons_to_label` turn the output into labels. The attached files
are the StarDist folder.

## Validation

Look at the labels of some images before you trust them. `test_output.npy` is the output for
`test_input.npy`.
"""

_TEMPLATES = {"onnx": _ONNX, "savedmodel": _SAVED_MODEL, "bioimageio": _BIOIMAGEIO}


def write_readme(to: str, facts: Facts, *, file: str = "") -> str:
    """Word the read-me file of a format: onnx, savedmodel or bioimageio."""
    size, scale = facts.pixel_size, facts.scale
    said = "not known" if size is None else f"{size[0]:g} × {size[1]:g} µm (y, x)"
    low, high = facts.percentiles
    whose = _OWN_SCALE if facts.per_image else ""
    if facts.working_diameter is not None:
        whose += _OTHER_CELLS.format(facts.working_diameter)
    axes = "B, C, Y, X" if to == "onnx" else "B, Y, X, C"
    values = vars(facts) | {"pixel_size": said, "low": low, "high": high, "axes": axes}
    pixels = _PIXELS_UNKNOWN.format(scale)
    if size is not None:  # QuPath, too, takes the mean of height and width
        pixels = _PIXELS_KNOWN.format(sum(size) / 2 / scale)
    return _TEMPLATES[to].format(
        **values,
        facts=_FACTS.format(**values, whose_scale=whose),
        file=file,
        groovy_pixel_size=pixels,
        fiji_scale="" if scale == 1 else _FIJI_SCALE.format(scale, 1 / scale),
    )
