"""Install the system's libraries that Qt needs; `make test` runs this first.

Qt's wheels bring everything but these. On Debian and its like, root gets them by apt; everybody
else is told in one line what to install, and the tests of the napari plugin will fail.
"""

import ctypes
import os
import shutil
import subprocess
import sys

PACKAGES = {  # library -> Debian's package
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgssapi_krb5.so.2": "libgssapi-krb5-2",
}


def list_missing():
    """List the packages of the libraries that can't be loaded."""
    return [package for library, package in PACKAGES.items() if not _loads(library)]


def _loads(library):
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def main():
    """Install what is missing, or say what to install."""
    missing = list_missing() if sys.platform == "linux" else []
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing what Qt needs: {' '.join(missing)}", flush=True)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for step in (["apt-get", "update"], command):
            subprocess.run(step, env=environment, stdout=subprocess.DEVNULL, check=False)
        missing = list_missing()
    if missing:
        print(
            f"Qt needs libraries of the system for the tests of the napari plugin. Missing: "
            f"{' '.join(missing)}; on Debian and Ubuntu: sudo {' '.join(command)}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
