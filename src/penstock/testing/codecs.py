"""The conformance battery for codecs: run it on your own classes with save and load, too.

Belongs here: what must hold for every value that is kept. Each promise is a function; `check_codec` runs them all.
"""

import importlib
import io
import json
import operator
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from penstock.core.errors import DamagedError
from penstock.core.records import Artifact
from penstock.store.blobs import Blobs
from penstock.store.codecs import blobs_of, load, save

Equal = Callable[[Any, Any], bool]
_PICKLE_START = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_PROGRAM = """
import json, sys
asked = json.loads(sys.argv[1])
sys.path[:] = asked["path"]
from penstock.testing.codecs import digests_here
print(json.dumps(digests_here(asked["make"], asked["root"])))
"""


def check_codec(make: Callable[[], object], root: Path, *, equal: Equal = operator.eq) -> Artifact:
    """Check everything a kept value promises; AssertionError says which promise does not hold.

    Args:
        make: Makes the value; a function at the top level of a module, since other processes call it too.
        root: An empty directory for the blobs.
        equal: Whether the value that came back equals the one that was made.

    Returns:
        The artifact, for further checks.

    Example:
        ```python
        def test_my_ranker_can_be_kept(tmp_path):
            check_codec(make_ranker, tmp_path, equal=lambda a, b: a.weights == b.weights)
        ```
    """
    artifact = check_round_trip(make, root, equal=equal)
    check_stable_digest(make, artifact, root)
    check_damage_is_refused(artifact, root)
    check_no_pickle(artifact, root)
    return artifact


def check_round_trip(make: Callable[[], object], root: Path, *, equal: Equal = operator.eq) -> Artifact:
    """Check that the value comes back equal, looked at lazily and fully, and that its sizes are true."""
    blobs = Blobs(root / "blobs")
    artifact = save(make(), blobs)
    for verify in ("lazy", "full"):
        back = load(artifact, Blobs(blobs.root), verify="full" if verify == "full" else "lazy")
        assert equal(back, make()), f"the value came back different ({verify}): {type(back)!r}"  # noqa: S101 -- a battery asserts
    sizes = sum(blobs.path(digest).stat().st_size for digest in blobs_of(artifact, blobs))
    # The same bytes are kept once, but count for each part that needs them.
    assert sizes <= artifact.size_bytes, f"{artifact.size_bytes} bytes are claimed, {sizes} are kept"  # noqa: S101
    left = sorted(path.name for path in blobs.temporary.iterdir()) if blobs.temporary.is_dir() else []
    assert not left, f"saving and loading left {left!r} behind"  # noqa: S101
    return artifact


def check_stable_digest(make: Callable[[], object], artifact: Artifact, root: Path) -> None:
    """Check that another process gives the same digest, for the value made and for it read back and kept again."""
    asked = {
        "path": sys.path,
        "make": f"{make.__module__}:{make.__qualname__}",
        "root": str(root / "another-process"),
    }
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(asked)],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"another process failed:\n{done.stderr}"  # noqa: S101
    made, again = json.loads(done.stdout.splitlines()[-1])
    assert made == artifact.digest, f"another process gave digest {made}, this one {artifact.digest}"  # noqa: S101
    assert again == artifact.digest, f"read back and kept again, the digest is {again}, not {artifact.digest}"  # noqa: S101


def digests_here(make: str, root: str) -> tuple[str, str]:
    """Return the digest of the value made in this process, and of that value read back and kept again."""
    blobs = Blobs(Path(root) / "blobs")
    module, _, name = make.partition(":")
    artifact = save(getattr(importlib.import_module(module), name)(), blobs)
    return artifact.digest, save(load(artifact, blobs), blobs).digest


def check_damage_is_refused(artifact: Artifact, root: Path) -> None:
    """Check that one flipped bit, a cut and a missing file are refused, in every blob the artifact needs."""
    blobs = Blobs(root / "blobs")
    for digest in blobs_of(artifact, blobs):
        path = blobs.path(digest)
        whole = path.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :] if whole else b"\0"
        for harm, data in (("a flipped bit", flipped), ("a cut", whole[:-1] if whole else b"\0"), ("absence", None)):
            path.unlink(missing_ok=True)
            if data is not None:
                path.write_bytes(data)
            _check_refused(artifact, blobs.root, f"{harm} in blob {digest}")
        path.unlink(missing_ok=True)
        path.write_bytes(whole)


def _check_refused(artifact: Artifact, root: Path, harm: str) -> None:
    try:
        load(artifact, Blobs(root))
    except DamagedError:
        return
    raise AssertionError(f"{harm} was not noticed")


def check_no_pickle(artifact: Artifact, root: Path) -> None:
    """Check that nothing kept is a pickle, and that reading it back unpickles nothing."""
    blobs = Blobs(root / "blobs")
    for digest in blobs_of(artifact, blobs):
        for name, data in _files_in(blobs.read(digest)):
            assert not data.startswith(_PICKLE_START), f"blob {digest} holds a pickle{name}"  # noqa: S101
    with _unpickled() as names:
        load(artifact, blobs)
    assert not names, f"reading it back unpickled {names!r}"  # noqa: S101


def _files_in(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "", data
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield f" in {name!r}", archive.read(name)


@contextmanager
def _unpickled() -> Iterator[list[str]]:
    names: list[str] = []
    listeners = _listeners()
    listeners.append(names)
    try:
        yield names
    finally:
        listeners.remove(names)


@cache
def _listeners() -> list[list[str]]:
    """Return who wants to hear of unpickling; an audit hook cannot be removed, so there is one per process."""
    listeners: list[list[str]] = []

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event == "pickle.find_class" and listeners:
            for names in listeners:
                names.append(".".join(map(str, arguments)))

    sys.addaudithook(hear)
    return listeners
