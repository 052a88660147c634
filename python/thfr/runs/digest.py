"""What ties the files of a run together: SHA-256 of configuration, inputs, backbone and model, in ``run.json``, and one
digest of them all in ``threshold.json``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from thfr.errors import InputError
from thfr.io import file_sha256
from thfr.runs import files
from thfr.runs.folder import is_finished, read_metadata


def file_digests(run: Path) -> dict[str, str]:
    """File name -> SHA-256, of those files that decide the run's scores."""
    names = (files.CONFIG, files.INPUTS, files.BACKBONE, files.MODEL, files.CATEGORIES)
    return {name: file_sha256(run / name) for name in names if (run / name).is_file()}


def combined(digests: Mapping[str, str]) -> str:
    """One digest of several files."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def check_files(run: Path) -> str:
    """The digest of a run's files, which must be those that its training wrote.

    Raises:
        InputError: a file is missing, cannot be read, or is another one than ``run.json`` says; older runs
            say nothing.
    """
    found = file_digests(run)
    expected = read_metadata(run).digests if is_finished(run) else {}
    for name, digest in expected.items():
        if found.get(name) != digest:
            state = "is not the file that its training wrote" if name in found else "is missing"
            raise InputError(f"run: {run / name} {state}: its SHA-256 is not the one in {files.RUN}")
    return combined(found)
