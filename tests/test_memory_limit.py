from __future__ import annotations

from pathlib import Path

import pytest

from kedro_flask_server.memory_limit import MemoryLimit

GB = 1_000_000_000


def system(root: Path, cgroup: str, **files: str) -> Path:
    """Make the files of a system; in names, ``__`` stands for ``/``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("memory_", "memory.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {"memory_max": "4000000000"}, MemoryLimit(limit_bytes=4 * GB)),
        ("0::/\n", {"memory_max": "max"}, MemoryLimit()),
        (
            "0::/pod/app\n",
            {
                "pod__app__memory_max": "max",
                "pod__memory_max": "2000000000",
                "memory_max": "3000000000",
            },
            MemoryLimit(limit_bytes=2 * GB),
        ),
        (
            "0::/pod/app\n",
            {"pod__app__memory_oom.group": "0", "pod__memory_oom.group": "1"},
            MemoryLimit(ends_all=True),
        ),
        # Its own group is mounted, but named as on the host.
        ("0::/not/mounted\n", {"memory_max": "1000000000"}, MemoryLimit(limit_bytes=GB)),
        ("0::/../other\n", {"memory_max": "1000000000"}, MemoryLimit(limit_bytes=GB)),
        (
            "5:cpu,memory:/docker/x\n3:cpu:/\n0::/\n",
            {
                "memory__docker__x__memory_limit_in_bytes": "1000000000",
                "memory__memory_limit_in_bytes": "9223372036854771712",
            },
            MemoryLimit(limit_bytes=GB),
        ),
        ("", {}, MemoryLimit()),
    ],
)
def test_limit_is_the_lowest_of_all_groups_around(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: MemoryLimit
) -> None:
    assert MemoryLimit.of_this_process(system(tmp_path, cgroup, **files)) == expected


def test_this_system_has_a_limit_or_none(tmp_path: Path) -> None:
    limit = MemoryLimit.of_this_process()
    assert limit.limit_bytes is None or limit.limit_bytes > 0
    assert MemoryLimit.of_this_process(tmp_path) == MemoryLimit()  # no Linux


@pytest.mark.parametrize(
    ("limit", "worker_limit_mb", "says"),
    [
        (MemoryLimit(), None, None),
        (MemoryLimit(limit_bytes=4 * GB), 800, None),
        (MemoryLimit(limit_bytes=4 * GB), None, "worker_memory_limit_mb; 875 fits 4 workers"),
        (MemoryLimit(limit_bytes=4 * GB, ends_all=True), None, "end together"),
        (MemoryLimit(limit_bytes=4 * GB, ends_all=True), 900, "is 900, for each process of a run"),
        (MemoryLimit(ends_all=True), None, "end together"),
        (MemoryLimit(limit_bytes=GB // 2), None, "too little for 4 workers"),
    ],
)
def test_start_says_what_a_limit_means(
    limit: MemoryLimit, worker_limit_mb: int | None, says: str | None
) -> None:
    said = limit.warning(workers=4, worker_memory_limit_mb=worker_limit_mb)
    assert said is None if says is None else says in (said or "")
    assert "\n" not in (said or "")
