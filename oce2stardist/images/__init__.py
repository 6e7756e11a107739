"""Reads image files into arrays: found, brought to channels, intensities and scale; also lazily."""
