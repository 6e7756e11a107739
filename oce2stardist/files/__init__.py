"""Files that are written whole or not at all, read within bounds, and told by their content."""
