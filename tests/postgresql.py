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
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, make_url

from tests.servers import free_port


def program(name: str) -> str | None:
    """Return the path of a program; Debian has PostgreSQL's, and PgBouncer, off the path."""
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), "/usr/sbin"]
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
        self._serve()

    def follow(self, primary: PostgreSQL) -> None:
        """Start as the standby of another server, which can be read and not be written."""
        shutil.chown(self._folder, self._user)
        self._make_certificate()
        copy = [
            *(str(program("pg_basebackup")), "-D", str(self._folder / "data"), "-R", "-N"),
            *("-h", "127.0.0.1", "-p", str(primary.port), "-U", "tests", "-c", "fast"),
        ]
        subprocess.run(copy, check=True, capture_output=True, cwd="/", **self._as_user())
        self._serve()

    def promote(self) -> None:
        """Have a standby become a server that can be written."""
        self._run("SELECT pg_promote()")

    def make_read_only(self) -> None:
        """Refuse to write from now on, over the connections that are open, too."""
        self._run("ALTER SYSTEM SET default_transaction_read_only = on")
        self._run("SELECT pg_reload_conf()")

    def _serve(self) -> None:
        data = self._folder / "data"
        command = [
            *(str(program("postgres")), "-D", str(data), "-p", str(self.port)),
            *("-c", f"fsync={self._fsync}"),
            *("-h", "127.0.0.1", "-k", str(self._folder)),
            *("-c", "ssl=on", "-c", f"ssl_cert_file={self.certificate}"),
            *("-c", f"ssl_key_file={self._folder / 'key.pem'}"),
            *("-c", f"ssl_ca_file={self.certificate}"),
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

    def client_certificate(self, user: str) -> tuple[Path, Path]:
        """Return a certificate for a user, which the server trusts, and its key."""
        certificate, key = self._folder / f"{user}.crt", self._folder / f"{user}.key"
        request = self._folder / f"{user}.csr"
        make = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key)]
        subprocess.run([*make, "-out", request, "-subj", f"/CN={user}"], check=True)
        sign = ["openssl", "x509", "-req", "-in", request, "-CA", str(self.certificate)]
        own = ["-CAkey", str(self._folder / "key.pem"), "-days", "1", "-out", str(certificate)]
        subprocess.run([*sign, *own], check=True, capture_output=True)
        key.chmod(0o600)
        return certificate, key

    @property
    def certificate(self) -> Path:
        """Return the certificate that the server shows, and that vouches for itself."""
        return self._folder / "certificate.pem"

    def stop(self) -> None:
        if self._process.poll() is not None:
            return
        self.resume()
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)

    def _as_user(self) -> dict[str, str]:
        return {"user": self._user} if os.geteuid() == 0 else {}

    def _run(self, statement: str) -> None:
        self.query(statement, "postgres")

    def query(self, statement: str, database: str) -> list[tuple[object, ...]]:
        """Return what a statement finds, if it is one that does."""
        address = f"postgresql://tests@127.0.0.1:{self.port}/{database}"
        with psycopg.connect(address, autocommit=True) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []

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
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def pause_connections(self) -> None:
        """Stop the processes behind the connections that are open; more can be made."""
        for process in self._processes()[1:]:
            with suppress(psutil.NoSuchProcess):
                if " tests " in " ".join(process.cmdline()):  # its user
                    process.suspend()

    def resume(self) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()


def make_schema(url: str, revision: str) -> None:
    """Make the tables in an empty database, as a version of the program did that is older."""
    config = Config()
    config.set_main_option("script_location", "kedro_flask_server.store:migrations")
    config.set_main_option("path_separator", "os")
    address = make_url(url.replace("postgresql:", "postgresql+psycopg:"))
    if address.get_backend_name() == "sqlite":
        Path(str(address.database)).parent.mkdir(exist_ok=True)
    engine = create_engine(address)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


@contextmanager
def running_standby(primary: PostgreSQL) -> Iterator[PostgreSQL]:
    with tempfile.TemporaryDirectory() as folder:
        server = PostgreSQL(Path(folder))
        server.follow(primary)
        try:
            yield server
        finally:
            server.stop()


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


_PGBOUNCER = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
default_pool_size = 3
auth_type = trust
auth_file = {folder}/users.txt
"""


@contextmanager
def running_pgbouncer(server: PostgreSQL) -> Iterator[int]:
    """Return the port of a PgBouncer that gives each transaction one of three connections."""
    user = {"user": "postgres"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        folder.chmod(0o755)
        (folder / "users.txt").write_text('"tests" ""\n')
        settings = folder / "pgbouncer.ini"
        settings.write_text(_PGBOUNCER.format(server=server.port, port=port, folder=folder))
        command = [str(program("pgbouncer")), str(settings)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd="/", **user)
        try:
            ends_at = time.monotonic() + 30
            while True:
                try:
                    psycopg.connect(f"postgresql://tests@127.0.0.1:{port}/postgres").close()
                    break
                except psycopg.Error:
                    assert time.monotonic() < ends_at
                    time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(30)
