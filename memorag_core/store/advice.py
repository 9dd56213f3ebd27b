"""What helps against a disk that refuses, by what it said.

In: an error of the operating system. Out: a sentence. Touches no disk.
"""

from __future__ import annotations

import errno

_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE})
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


def advice(error: OSError) -> str:
    """What the user can do."""
    if error.errno in _FULL:
        return "Free space there, or choose another folder."
    if error.errno in _REFUSED:
        return "Grant access to it, or choose another folder."
    if error.errno in _TOO_MANY:
        return "Close files, or raise the limit of open files (ulimit -n), and try again."
    if error.errno == errno.ENAMETOOLONG:
        return "Choose a shorter name."
    if error.errno in _NO_LOCKS:
        return "Choose a folder on a local disk: its file system lacks what is needed, such as locks."
    return "Check the disk and its connection, and try again, or choose another folder."
