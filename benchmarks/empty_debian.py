"""Do in an empty Debian what README or Dockerfile say: minutes and megabytes of every command.

    debootstrap --variant=minbase --include=ca-certificates bookworm ROOT
    python benchmarks/empty_debian.py readme ROOT [--bind FOLDER ...] [--until WORDS]
    python benchmarks/empty_debian.py dockerfile ROOT

It needs root, as chroot does. `readme` copies every bash block out of README.md and runs its lines
in order, as a new user types them; `git clone` of the address is answered by this checkout. Images
that the commands name are cut from the nuclei that stardist ships. `dockerfile` runs RUN and CMD
lines, and copies what COPY says: for machines without a builder of images. `--bind` shows a folder
of this machine, such as a package cache; `--until` ends with the first command that holds these
words.
"""

import argparse
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)

IMAGES = """
import numpy as np, tifffile
from pathlib import Path
from stardist.data import test_image_nuclei_2d
image, truth = test_image_nuclei_2d(return_mask=True)
parts = {"images/a": np.s_[:256, :256], "images/b": np.s_[:256, 256:]}
parts["new_images/c"] = np.s_[256:, :256]
for name, part in parts.items():
    Path(name).parent.mkdir(exist_ok=True)
    tifffile.imwrite(f"{name}.tif", image[part])
Path("masks").mkdir(exist_ok=True)
outlined = truth[:256, :256]
kept = np.isin(outlined, np.unique(outlined)[1:13])
tifffile.imwrite("masks/a.tif", np.where(kept, outlined, 0).astype(np.int32))
"""


def run_in(root: Path, shell: str, *, folder: str) -> None:
    """Run lines of a shell in the root."""
    kept = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "TERM": "dumb", **kept}
    script = f"set -e; cd {shlex.quote(folder)}; {shell}"
    subprocess.run(["chroot", root, "bash", "-c", script], env=environment, check=True)


def megabytes(root: Path) -> int:
    """Measure the files of the root, without what is bound into it."""
    done = subprocess.run(["du", "-smx", root], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def timed(root: Path, name: str, shell: str, *, folder: str) -> None:
    """Run a command and print what it took."""
    started, before = time.monotonic(), megabytes(root)
    print(f"$ {name}", flush=True)
    run_in(root, shell, folder=folder)
    minutes, more = (time.monotonic() - started) / 60, megabytes(root) - before
    print(f"= {minutes:.1f} min, {more:+d} MB: {name}", flush=True)


def of_readme() -> Iterator[str]:
    """List the commands of the README."""
    for block in BLOCK.findall((HERE / "README.md").read_text(encoding="utf-8")):
        yield from filter(None, map(str.strip, block.splitlines()))


# Paths below are inside the root, where the new user is root, too.


def follow_readme(root: Path, until: str | None) -> None:
    """Do what the README says, as a user who has Python and git."""
    timed(root, "python3-venv and git of Debian",
          "apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv git",
          folder="/root")  # fmt: skip
    url = re.search(r"git clone (\S+)", (HERE / "README.md").read_text(encoding="utf-8"))[1]
    subprocess.run(["git", "clone", "-q", "--bare", HERE, root / "root" / "source.git"], check=True)
    run_in(root, f"git config --global url./root/source.git.insteadOf {url}; "
           "git config --global safe.directory '*'", folder="/root")  # fmt: skip
    folder, active, has_images = "/root", "", False
    for command in of_readme():
        if "images/" in command and not has_images:
            run_in(root, f"{active} python - <<'END'\n{IMAGES}\nEND", folder=folder)
            has_images = True
        timed(root, command, f"{active} {command}", folder=folder)
        if command.startswith("source "):
            active = f"{command};"
        if "&& cd " in command:
            folder = f"/root/{command.rsplit('cd ', 1)[1]}"
        if until and until in command:
            return


def follow_dockerfile(root: Path, until: str | None) -> None:
    """Run the steps of the Dockerfile."""
    folder = "/"
    for line in (HERE / "Dockerfile").read_text(encoding="utf-8").splitlines():
        word, _, rest = line.partition(" ")
        if word == "WORKDIR":
            folder = rest
            (root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                place = root / folder.lstrip("/") / target
                subprocess.run(
                    ["cp", "-rT" if (HERE / source).is_dir() else "-r", HERE / source, place],
                    check=True,
                )
        elif word in ("RUN", "CMD"):
            command = rest if word == "RUN" else shlex.join(words_of(rest))
            timed(root, command, command, folder=folder)
            if until and until in command:
                return


def words_of(text: str) -> list[str]:
    """Read the list of words of CMD."""
    return re.findall(r'"([^"]*)"', text)


def main() -> None:
    """Read the arguments, bind folders, follow, and let go of them again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["readme", "dockerfile"])
    parser.add_argument("root", type=Path)
    parser.add_argument("--bind", action="append", default=[], metavar="FOLDER")
    parser.add_argument("--until", metavar="WORDS")
    given = parser.parse_args()
    bound = []
    try:
        for folder in ["/proc", "/dev", *given.bind]:
            place = given.root / folder.lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--bind", folder, place], check=True)
            bound.append(place)
        follow = follow_readme if given.what == "readme" else follow_dockerfile
        follow(given.root, given.until)
        print(f"{megabytes(given.root)} MB in all")
    finally:
        for place in reversed(bound):
            subprocess.run(["umount", place], check=False)


if __name__ == "__main__":
    main()
