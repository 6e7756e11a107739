"""Images larger than memory, block by block on dask workers."""
