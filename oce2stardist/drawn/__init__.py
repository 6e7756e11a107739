"""Draw scenes of cells with a random look, and their labels: what the start is trained on.

No microscope image takes part. `shapes` draws where cells are, `looks` what they look like,
`surroundings` what lies between them, `camera` what optics and sensor make of it, and `scenes`
puts the four together. Everything is drawn for cells of one median diameter, `DIAMETER`.
"""

DIAMETER = 28.0
"""Median diameter of the cells, pixels: the working diameter of the default preset."""
