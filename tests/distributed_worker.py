"""Train a tiny network in as many processes as started it, and write what came out.

Not a test: tests/embeddings/test_distributed.py runs it, alone and as torchrun would.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from scenes import discs_scene

from oce2stardist.config import EmbeddingConfig
from oce2stardist.embeddings.checkpoint import read_state, write_state
from oce2stardist.embeddings.distributed import (
    agree_on_any,
    init_from_env,
    is_main_process,
    main_process_first,
    rank_and_size,
)
from oce2stardist.embeddings.train import train_offsets
from oce2stardist.images.normalise import normalise_percentiles

STEPS = 20


def main(folder: Path, settings: dict[str, object], stop_after: int | None) -> None:
    """Train to the end, or until the last process wants to stop; go on from a state there."""
    torch.set_num_threads(1)
    image, _ = discs_scene(4, (110, 110), 10, seed=1)
    with init_from_env("cpu"):
        rank, size = rank_and_size()
        with main_process_first():
            if is_main_process():
                (folder / "started").write_text("")
            assert (folder / "started").exists()
        state_file = folder / "state.pt"
        state = read_state(state_file) if state_file.exists() else None
        asked = 0

        def should_stop() -> bool:
            nonlocal asked
            asked += 1
            return stop_after is not None and rank == size - 1 and asked > stop_after

        saved = []
        run = train_offsets(
            [normalise_percentiles(image[..., None])],
            EmbeddingConfig(**settings, steps=STEPS),
            device="cpu",
            seed=3,
            resume=state,
            save=lambda state: saved.append(write_state(state_file, state)),
            should_stop=should_stop,
        )
        agree_on_any(False)  # returns once every process has come here
        outcome = {
            "losses": [row["loss"] for row in run.history],
            "weights": sum(float(p.detach().abs().sum()) for p in run.network.parameters()),
            "finished": run.finished,
            "saved": len(saved),
            "processes": size,
        }
        (folder / f"found{rank}.json").write_text(json.dumps(outcome))
    assert np.isfinite(outcome["losses"]).all()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3]))
