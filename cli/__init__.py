"""The `oce2stardist` program: parses, calls a runner, prints."""
