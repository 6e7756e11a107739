"""The paper's studies: the runs of their grids, where these are done, tables and answers."""
