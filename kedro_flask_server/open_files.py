"""The limit of files and sockets that this process may have open."""

from __future__ import annotations

import sys


def allow_descriptors(count: int) -> int:
    """Raise the limit of open files and sockets, as far as the system's hard limit allows.

    Args:
        count: How many to allow.

    Returns:
        How many are allowed now, up to `count`.
    """
    if sys.platform == "win32":
        return count

    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        soft = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return count if soft == resource.RLIM_INFINITY else min(count, soft)
