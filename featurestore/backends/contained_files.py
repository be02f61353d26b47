"""Files below a root, reached so that no symbolic link inside it is ever followed.

A store of somebody else may hold links. Followed, they would have a removal delete, a repair overwrite and a
copy publish what lies elsewhere. Linux opens a path without following any (`openat2`, since 5.6); elsewhere
each folder is opened in the one before it, never through a link. What is read is a plain file, so that a
named pipe or a device can neither stop a reader nor be read. The root itself may be a link: that one the user
named.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import sys
from collections.abc import Sequence

from featurestore.errors import NotPlain

# O_PATH: to reach what is inside and not to list it, which asks nothing of a file server.
_ROOT = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FOLDER = _ROOT | os.O_NOFOLLOW
_LISTED = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Not waiting: the other end of a pipe may never come.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Number of the system call on every architecture that has these (since 2019 they are alike), its `struct
# open_how` (flags, mode, resolve), and RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH: linux/openat2.h.
_OPENAT2, _OPEN_HOW, _CONTAINED = 437, ctypes.c_uint64 * 3, 0x04 | 0x08
_HAS_OPENAT2 = sys.platform == "linux" and os.uname().machine in ("x86_64", "aarch64")
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)


def _open_below(at: int, parts: Sequence[str], flags: int) -> int:
    """Descriptor of what lies below an open folder, the whole path in one call; -1 where it must be walked.

    The system may lack the call, or a container forbid it; and what stands in the way the walk names.

    Raises:
        FileNotFoundError: there is no such thing.
    """
    if not _HAS_OPENAT2:
        return -1
    path, how = os.fsencode("/".join(parts)), _OPEN_HOW(flags, 0, _CONTAINED)
    found = int(_syscall(_OPENAT2, at, path, ctypes.byref(how), ctypes.sizeof(how)))
    if found < 0 and ctypes.get_errno() == errno.ENOENT:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return found


def _walk(top: int, root: str, folders: Sequence[str], *, make: bool = False) -> int:
    """`open_folder`, each folder opened in the one before it; `top` is the root, and stays open."""
    at = top
    for depth, name in enumerate(folders or (".",)):
        try:
            try:
                inner = os.open(name, _FOLDER, dir_fd=at)
            except FileNotFoundError:
                if not make:
                    raise
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=at)
                inner = os.open(name, _FOLDER, dir_fd=at)
        except FileNotFoundError:
            raise
        except OSError:
            _refuse_link_to_folder("/".join((root, *folders[: depth + 1])))
            raise
        finally:
            if at != top:
                os.close(at)
        at = inner
    return at


def open_folder(root: str, folders: Sequence[str], *, make: bool = False) -> int:
    """Descriptor of a folder, good for names inside it; the caller closes it.

    Args:
        root: the store.
        folders: names, one inside the other, of which none is ``..``.
        make: make the folders that are not there.

    Raises:
        NotPlain: one of them is a symbolic link.
        FileNotFoundError, NotADirectoryError: there is no such folder.
    """
    if make:
        os.makedirs(root, exist_ok=True)
    top = os.open(root, _ROOT)
    try:
        try:
            found = _open_below(top, folders or (".",), _FOLDER)
        except FileNotFoundError:
            if not make:
                raise
            found = -1
        return found if found >= 0 else _walk(top, root, folders, make=make)
    finally:
        os.close(top)


def open_listed(root: str, folders: Sequence[str]) -> int:
    """`open_folder` to be listed."""
    at = open_folder(root, folders)
    try:
        return os.open(".", _LISTED, dir_fd=at)
    finally:
        os.close(at)


def _walk_to_file(top: int, root: str, parts: Sequence[str]) -> int:
    at = _walk(top, root, parts[:-1])
    try:
        return os.open(parts[-1], _FILE, dir_fd=at)
    except FileNotFoundError:
        raise
    except OSError:
        mode = os.stat(parts[-1], dir_fd=at, follow_symlinks=False).st_mode
        refuse_other(mode, "/".join((root, *parts)))
        raise
    finally:
        os.close(at)


def open_file(root: str, parts: Sequence[str]) -> tuple[int, int]:
    """Descriptor and size in bytes of a file; the caller closes it.

    Raises:
        NotPlain: it, or a folder on the way, is a symbolic link; or it is no plain file.
        FileNotFoundError, NotADirectoryError, IsADirectoryError: there is no such file.
    """
    top = os.open(root, _ROOT)
    try:
        if (file := _open_below(top, parts, _FILE)) < 0:
            file = _walk_to_file(top, root, parts)
    finally:
        os.close(top)
    found = os.fstat(file)
    if stat.S_ISREG(found.st_mode):
        return file, found.st_size
    os.close(file)
    refuse_other(found.st_mode, "/".join((root, *parts)))
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def refuse_occupied(folder: int, name: str, path: str) -> None:
    """Refuse to put a file where something that is neither file nor folder stands.

    Raises:
        NotPlain: what stands there.
    """
    with contextlib.suppress(FileNotFoundError):
        refuse_other(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode, path)


def sync_folder(folder: int) -> None:
    """Have the names in an open folder on disk: a rename is durable only then."""
    # Some network file systems refuse to open a folder for this; they order metadata themselves.
    try:
        descriptor = os.open(".", _LISTED, dir_fd=folder)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def refuse_other(mode: int, path: str) -> None:
    """Refuse what is neither a file nor a folder, whose `mode` this is.

    Raises:
        NotPlain: what it is, and how to mend it.
    """
    if (what := describe(mode, path)) is None:
        return
    mend = (
        "put what it points to in its place, or link the store as a whole"
        if stat.S_ISLNK(mode)
        else "remove it, or put the file there that it stands for"
    )
    raise NotPlain(
        f"{path} is {what}; inside a store nothing is read, written or removed through such a name: {mend}"
    )


def describe(mode: int, path: str) -> str | None:
    """``a symbolic link to /scratch/x``, ``a named pipe`` …; None for files and folders."""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    if stat.S_ISLNK(mode):
        try:
            return f"a symbolic link to {os.readlink(path)}"
        except OSError:
            return "a symbolic link"
    return {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}.get(stat.S_IFMT(mode), "a device")


def _refuse_link_to_folder(path: str) -> None:
    """Refuse a link in the place of a folder; one to a file, somebody's note perhaps, hides nothing."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode) and not os.path.isfile(path):
            refuse_other(mode, path)
