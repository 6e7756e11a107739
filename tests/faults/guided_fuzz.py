"""The readers under atheris, which changes files so that they reach code not reached before.

    pip install atheris   # not among our dependencies; Linux only
    python tests/faults/guided_fuzz.py roi CORPUS [-max_total_time=60 ...]

Targets are those of fuzz.py. A reader that neither reads nor refuses ends it with a traceback and
the input in a file crash-*, which becomes a test in test_fuzz.py.
"""

import logging
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["oce2stardist.annotations", "oce2stardist.images.find", "oce2stardist.config",
             "oce2stardist.files.archives", "roifile", "tifffile"]
):  # fmt: skip
    import fuzz


def main() -> None:
    _, name, corpus, *options = sys.argv
    logging.disable()
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix="oce2stardist-fuzz-"))
    Path(corpus).mkdir(parents=True, exist_ok=True)
    (Path(corpus) / "valid").write_bytes(fuzz.SEEDS[name][2]())
    for seed in range(30):
        (Path(corpus) / f"changed-{seed}").write_bytes(fuzz.draw(name, seed))
    atheris.Setup([sys.argv[0], corpus, *options], lambda data: fuzz.check(name, data, folder))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
