"""Files to arrays: found, read, brought to channels, intensities and scale; also lazily."""
