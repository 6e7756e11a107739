"""Zip files from elsewhere, looked at before they are unpacked."""

import zipfile
from pathlib import PureWindowsPath

from oce2stardist.errors import InputError

MAX_BYTES = 2**30
MAX_FILES = 10_000


def check_archive(archive: zipfile.ZipFile, *, at_most: int = MAX_BYTES) -> None:
    """Refuse an archive that would unpack to too much, or out of its folder.

    All files together may have `at_most` bytes, unpacked. zipfile itself stops a file at the
    size that the archive's directory names.
    """
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > at_most or len(members) > MAX_FILES:
        raise InputError(
            f"{archive.filename} must hold at most {MAX_FILES} files and at most {at_most} bytes "
            f"unpacked. Got {size} in {len(members)} files; delete it."
        )
    for member in members:
        name = PureWindowsPath(member.filename)  # of both separators, and with drives
        if name.is_absolute() or name.drive or name.root or ".." in name.parts:
            raise InputError(
                f"{archive.filename} must hold plain file names. Got {member.filename!r}, which "
                "leads out of its folder; delete it."
            )
