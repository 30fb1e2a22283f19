"""Starts a real PostgreSQL server, and makes databases in it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from tests.servers import free_port


def program(name: str) -> str | None:
    """Return the path of one of PostgreSQL's programs; Debian has them off the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, folders)]))


class PostgreSQL:
    """A server of its own, with its data in a folder of its own."""

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        self._folder = folder
        self._fsync = "on" if fsync else "off"
        self.port = free_port()
        self._databases = 0
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    def start(self) -> None:
        shutil.chown(self._folder, self._user)
        data = self._folder / "data"
        self._make_certificate()
        init = [str(program("initdb")), "-D", str(data), "-U", "tests", "-A", "trust", "-N"]
        subprocess.run(init, check=True, capture_output=True, cwd="/", **self._as_user())
        command = [
            *(str(program("postgres")), "-D", str(data), "-p", str(self.port)),
            *("-c", f"fsync={self._fsync}"),
            *("-h", "127.0.0.1", "-k", str(self._folder)),
            *("-c", "ssl=on", "-c", f"ssl_cert_file={self.certificate}"),
            *("-c", f"ssl_key_file={self._folder / 'key.pem'}"),
        ]
        self._process = subprocess.Popen(
            command, stderr=subprocess.DEVNULL, cwd="/", **self._as_user()
        )
        ends_at = time.monotonic() + 30
        while True:
            try:
                self._run("SELECT 1")
            except psycopg.Error:
                assert time.monotonic() < ends_at
                time.sleep(0.05)
            else:
                return

    def _make_certificate(self) -> None:
        key = self._folder / "key.pem"
        command = [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-keyout", str(key), "-out", str(self.certificate)),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
        ]
        subprocess.run(command, check=True, capture_output=True)
        for file in (key, self.certificate):
            shutil.chown(file, self._user)

    @property
    def certificate(self) -> Path:
        """Return the certificate that the server shows, and that vouches for itself."""
        return self._folder / "certificate.pem"

    def stop(self) -> None:
        self.resume()
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)

    def _as_user(self) -> dict[str, str]:
        return {"user": self._user} if os.geteuid() == 0 else {}

    def _run(self, statement: str) -> None:
        address = f"postgresql://tests@127.0.0.1:{self.port}/postgres"
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement)

    def new_database(self) -> str:
        """Return the URL of an empty database."""
        self._databases += 1
        name = f"test_{self._databases}"
        self._run(f"CREATE DATABASE {name}")
        return f"postgresql://tests@127.0.0.1:{self.port}/{name}"

    def _processes(self) -> list[psutil.Process]:
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]

    def pause(self) -> None:
        """Stop all of its processes, as a machine that hangs would."""
        for process in self._processes():
            process.suspend()

    def resume(self) -> None:
        for process in self._processes():
            process.resume()


@contextmanager
def running_postgresql(*, fsync: bool = False) -> Iterator[PostgreSQL]:
    # Not pytest's folder, which other users may not enter.
    with tempfile.TemporaryDirectory() as folder:
        server = PostgreSQL(Path(folder), fsync=fsync)
        server.start()
        try:
            yield server
        finally:
            server.stop()
