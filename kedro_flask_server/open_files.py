"""How many files and sockets this process may have open."""

from __future__ import annotations

import sys


def allow_descriptors(count: int) -> int:
    """Let this process open as many files and sockets, if the system's hard limit does.

    Args:
        count: How many.

    Returns:
        How many it may open now, up to `count`.
    """
    if sys.platform == "win32":
        return count

    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        soft = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return count if soft == resource.RLIM_INFINITY else min(count, soft)
