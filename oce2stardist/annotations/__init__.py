"""Reads what people annotated by hand into label images: cells, known background, unknown.

=================  ==================================  =========================================
file               cells                               a pixel belongs to a shape
=================  ==================================  =========================================
TIFF, PNG          ids > 0 (napari labels too),        as stored
                   palette indices
ImageJ .zip, .roi  polygon, freehand, traced, oval,    if ImageJ's own mask of the selection
                   rectangle, composite                holds it
GeoJSON            Polygon, MultiPolygon (QuPath)      if its centre lies inside
LabelMe .json      polygon, rectangle, circle, mask    if its centre lies inside
napari .csv        polygon, rectangle, ellipse         if its centre lies inside
COCO .json         polygons, both forms of RLE         if pycocotools decodes it as 1
=================  ==================================  =========================================

Points and lines in any of them, COCO boxes without an outline, whatever is named *box*, and tables
of points or of verdicts on pseudo objects are hints (`oce2stardist.annotations.hints`): they
outline nothing, and say something of pseudo labels alone.

What is neither a cell nor named as background is unknown (-1), unless the caller says that
zero is background: then all of it is known background (0), in every image that has
annotations, but for what a label image holds as -1 and for unknown regions. A shape whose
class, category or (ImageJ) name is *background* marks known background; *Ignore*, or any
class with QuPath's trailing ``*``, marks what stays unknown. So does a COCO crowd of several cells.

A label in pieces far apart is no cell (`oce2stardist.images.instances`): masks are refused, or
taken piece by piece on request. A shape that holds several others is a region, and left out.

Where shapes overlap, no later one silently wins:

- A pixel that several cells claim goes to the smallest of them, so that a cell drawn inside
  another survives; among cells of one size, to the one listed first.
- Cells win over unknown regions, and these over background regions.

How many pixels this concerned is reported per image, and so is every cell left without one.

Outlines are filled by the even-odd rule, which is ImageJ's: what a self-crossing outline
encloses twice is outside. A shape that reaches over the border of its image is cut there, which
is told beyond `TOLERANCE` pixels; one wholly outside, or most of them over it, is an error.
"""

from oce2stardist.annotations.hints import Hints
from oce2stardist.annotations.read import AnnotationSet, read_annotations
from oce2stardist.annotations.shapes import TOLERANCE, Outline, Patch, Role, Shape

__all__ = [
    "TOLERANCE",
    "AnnotationSet",
    "Hints",
    "Outline",
    "Patch",
    "Role",
    "Shape",
    "read_annotations",
]
