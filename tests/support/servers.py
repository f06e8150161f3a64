"""Private database servers, started from installed binaries, and servers named by a URL.

Nothing here uses a service that already runs on the machine: a private server has its own
temporary data directory, its own free port on 127.0.0.1 and, where the tests run as root, the
unprivileged user ``nobody``. Its clock zone is deliberately an odd one (+05:45), so that a time
stored in the server's zone is noticed.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, ClassVar

from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

POSIX_ZONE = "<+0545>-05:45"
PASSWORD = "never-to-be-shown"
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class BackendMissingError(Exception):
    """This machine cannot offer a backend; the message is the reason."""


class ServerStartError(BackendMissingError):
    """The binaries are there, but the server did not come up."""


class Server(ABC):
    """A database server on which each test gets a database of its own."""

    label: ClassVar[str]
    scheme: ClassVar[str]
    sync_driver: ClassVar[str]
    async_driver: ClassVar[str]
    admin_database: ClassVar[str]

    def __init__(self) -> None:
        self._admin: Engine | None = None

    @property
    @abstractmethod
    def address(self) -> URL:
        """The server's URL, with user and password, without driver and database."""

    @property
    def host(self) -> str:
        return self.address.host or "localhost"

    @property
    @abstractmethod
    def port(self) -> int: ...

    @property
    @abstractmethod
    def controllable(self) -> bool:
        """Whether ``start``, ``stop`` and ``kill`` work: only on a server that the tests own."""

    @abstractmethod
    def start(self) -> None:
        """Start the server on its port and data; does nothing where it runs."""

    @abstractmethod
    def stop(self) -> None:
        """Shut the server down in order."""

    @abstractmethod
    def kill(self) -> None:
        """Kill the server with SIGKILL: what it had acknowledged must be there after ``start``."""

    def close(self) -> None:
        """Give back everything that the server took."""
        self._forget_admin()

    def url(self, database: str | None = None, *, asynchronous: bool = False) -> str:
        """A SQLAlchemy URL of one of the server's databases, password included."""
        driver = self.async_driver if asynchronous else self.sync_driver
        url = self.address.set(
            drivername=f"{self.scheme}+{driver}", database=database or self.admin_database
        )
        return url.render_as_string(hide_password=False)

    def create_database(self, name: str, *, options: str = "") -> None:
        """Create a database; ``options`` is appended to the statement."""
        self._run(f"CREATE DATABASE {name} {options}")

    @abstractmethod
    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""

    def end_connections(self, name: str, but: Connection | None = None) -> None:
        """End whoever is still connected to a database, and wait until they are gone.

        Args:
            name: The database.
            but: A connection to it that stays.
        """
        with nullcontext(but) if but is not None else self._admin_connection() as connection:
            asked = text(self._others.format(name=name))
            while others := connection.execute(asked).scalars().all():
                for other in others:
                    self._end_connection(connection, other)

    _others: ClassVar[str]
    """A query for the connections to a database, except the one that asks."""

    @abstractmethod
    def _end_connection(self, connection: Connection, other: int) -> None:
        """End another connection, if it is still there."""

    def version(self) -> str:
        """The version that the server reports."""
        return str(self._run("SELECT version()")[0][0])

    def _admin_connection(self) -> Connection:
        if self._admin is None:
            self._admin = create_engine(
                self.url(), isolation_level="AUTOCOMMIT", pool_size=1, pool_pre_ping=True
            )
        return self._admin.connect()

    def _run(self, *statements: str) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []
        with self._admin_connection() as connection:
            for statement in statements:
                result = connection.execute(text(statement))
                rows = [tuple(row) for row in result] if result.returns_rows else []
        return rows

    def _forget_admin(self) -> None:
        if self._admin is not None:
            self._admin.dispose()
            self._admin = None


class NamedServer(Server):
    """A server that the user named by a URL; its databases are ours, the server is not."""

    default_port: ClassVar[int]

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = make_url(url)

    @property
    def address(self) -> URL:
        return self._url

    @property
    def port(self) -> int:
        return self._url.port or self.default_port

    @property
    def controllable(self) -> bool:
        return False

    def start(self) -> None:
        try:
            self.version()
        except DBAPIError as error:
            raise ServerStartError(
                f"no {self.label} server answers at {self.host}:{self.port}: {error.orig}"
            ) from error

    def stop(self) -> None:
        raise NotImplementedError(f"the {self.label} server was named by a URL: it is not ours")

    def kill(self) -> None:
        self.stop()


class PrivateServer(Server):
    """A server process that the tests own, with its data in a temporary directory."""

    death_signal: ClassVar[signal.Signals]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self) -> None:
        super().__init__()
        self._owner = _Owner.current()
        self._home: Path | None = None
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None
        """The end of a connection whose other end all of the server's processes hold."""

    @property
    def port(self) -> int:
        return self._port

    @property
    def controllable(self) -> bool:
        return True

    @property
    def home(self) -> Path:
        """The temporary directory that holds the server's data and its log."""
        if self._home is None:
            self._home = _readable_temporary_directory(self._owner)
        return self._home

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        if self.running:
            return
        if self._home is None:
            self._initialise()
        for attempt in range(3):
            if self._port == 0:
                self._port = free_port()
            if self._start_once():
                return
            if attempt == 0 and self._lost_port_race():
                self._port = 0
        raise ServerStartError(f"{self.label} did not start: {self._log_tail()}")

    def stop(self) -> None:
        self._end(self.stop_signal)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let the server be silent, as behind a network that has failed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End a pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        super().close()
        self.stop()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    @abstractmethod
    def _initialise(self) -> None:
        """Make the data directory."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The command that runs the server in the foreground."""

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": POSIX_ZONE}

    def _run_tool(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            command,
            cwd="/",
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
            errors="replace",
            user=self._owner.user,
            group=self._owner.group,
            extra_groups=self._owner.extra_groups,
        )
        if done.returncode != 0:
            tail = " | ".join(done.stdout.strip().splitlines()[-5:])
            raise ServerStartError(f"{Path(command[0]).name} failed ({done.returncode}): {tail}")

    def _start_once(self) -> bool:
        self._end(signal.SIGKILL)  # what is left of one that ended by itself
        with self._log_path.open("ab") as log:
            self._process = self._spawn(self._command(), log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            if self._answers():
                return True
            time.sleep(0.02)
        self._end(signal.SIGKILL)
        return False

    def _spawn(self, command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        self._lifeline, theirs = socket.socketpair()
        with theirs:
            return subprocess.Popen(
                _dying_with_pytest(self.death_signal, command),
                cwd="/",
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._owner.user,
                group=self._owner.group,
                extra_groups=self._owner.extra_groups,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops it in order
                pass_fds=[theirs.fileno()],
            )

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((self.host, self._port)) != 0:
                return False
        try:
            self._run("SELECT 1")
        except DBAPIError:
            return False
        return True

    def _end(self, how: signal.Signals) -> None:
        self._forget_admin()
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._wait_for_its_last_process()

    def _wait_for_its_last_process(self) -> None:
        """Wait for PostgreSQL's backends, which outlive it and for a moment still answer."""
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            with lifeline:
                lifeline.settimeout(STOP_SECONDS)
                lifeline.recv(1)

    @property
    def _log_path(self) -> Path:
        return self.home / "log"

    def _log_tail(self) -> str:
        if not self._log_path.exists():
            return "it logged nothing"
        lines = self._log_path.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-5:])

    def _lost_port_race(self) -> bool:
        return "already in use" in self._log_tail()


class _PostgreSQL(Server):
    label = "PostgreSQL"
    scheme = "postgresql"
    sync_driver = "psycopg"
    async_driver = "asyncpg"
    admin_database = "postgres"
    _others = (
        "SELECT pid FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )

    def drop_database(self, name: str) -> None:
        self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _end_connection(self, connection: Connection, other: int) -> None:
        connection.exec_driver_sql(f"SELECT pg_terminate_backend({other})")


class NamedPostgreSQL(_PostgreSQL, NamedServer):
    """A PostgreSQL server named by ``--postgres-url``."""

    default_port = 5432


class PrivatePostgreSQL(_PostgreSQL, PrivateServer):
    """A PostgreSQL server of the tests' own."""

    death_signal = signal.SIGQUIT
    stop_signal = signal.SIGINT

    def __init__(self) -> None:
        super().__init__()
        self._binaries = find_postgresql()

    @property
    def address(self) -> URL:
        return URL.create(
            self.scheme,
            username="postgres",
            password=PASSWORD,
            host="127.0.0.1",
            port=self._port,
        )

    @property
    def data(self) -> Path:
        return self.home / "data"

    def create_database(self, name: str, *, options: str = "TEMPLATE template0") -> None:
        super().create_database(name, options=options)

    def _initialise(self) -> None:
        self._run_tool(
            [
                str(self._binaries / "initdb"),
                *("-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8"),
                *("--no-sync", "--locale=C.UTF-8"),
            ]
        )

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "max_wal_size": "4GB",
            "timezone": POSIX_ZONE,
        }
        options = [part for item in settings.items() for part in ("-c", "=".join(item))]
        return [
            *(str(self._binaries / "postgres"), "-D", str(self.data), "-p", str(self._port)),
            *options,
        ]


class _MariaDB(Server):
    label = "MariaDB"
    scheme = "mysql"
    sync_driver = "pymysql"
    async_driver = "asyncmy"
    admin_database = "mysql"
    _others = (
        "SELECT id FROM information_schema.processlist "
        "WHERE db = '{name}' AND id <> connection_id()"
    )

    def create_database(self, name: str, *, options: str = "CHARACTER SET utf8mb4") -> None:
        super().create_database(name, options=options)

    def drop_database(self, name: str) -> None:
        self.end_connections(name)
        self._run(f"DROP DATABASE IF EXISTS {name}")

    def _end_connection(self, connection: Connection, other: int) -> None:
        try:
            connection.exec_driver_sql(f"KILL {other}")
        except DBAPIError as error:
            if "Unknown thread" not in str(error.orig):
                raise


class NamedMariaDB(_MariaDB, NamedServer):
    """A MariaDB or MySQL server named by ``--mysql-url``."""

    default_port = 3306


class PrivateMariaDB(_MariaDB, PrivateServer):
    """A MariaDB server of the tests' own."""

    death_signal = signal.SIGKILL
    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        super().__init__()
        self._server, self._installer = find_mariadb()

    @property
    def address(self) -> URL:
        return URL.create(
            self.scheme,
            username="tester",
            password=PASSWORD,
            host="127.0.0.1",
            port=self._port,
        )

    def url(self, database: str | None = None, *, asynchronous: bool = False) -> str:
        url = super().url(database, asynchronous=asynchronous)
        # PyMySQL reads every certificate of the machine before it connects: 30 ms.
        return url if asynchronous else f"{url}?ssl_disabled=true"

    def _own_options(self) -> list[str]:
        # A server that starts deletes all temporary tables in its directory: others' too.
        return [f"--user={self._owner.name}", f"--tmpdir={self.home}"]

    def _initialise(self) -> None:
        users = (
            f"CREATE USER IF NOT EXISTS 'tester'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';",
            "GRANT ALL PRIVILEGES ON *.* TO 'tester'@'127.0.0.1' WITH GRANT OPTION;",
        )
        script = self.home / "init.sql"
        script.write_text("\n".join(users) + "\n")
        script.chmod(0o644)
        self._run_tool(
            [
                *(str(self._installer), "--no-defaults"),
                f"--basedir={self._installer.parent.parent}",
                f"--datadir={self.home / 'data'}",
                *self._own_options(),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
            ]
        )

    def _command(self) -> list[str]:
        return [
            *(str(self._server), "--no-defaults"),
            f"--datadir={self.home / 'data'}",
            *self._own_options(),
            f"--port={self._port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.home / 's'}",
            f"--pid-file={self.home / 'pid'}",
            f"--init-file={self.home / 'init.sql'}",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--max-allowed-packet=1G",
            "--max-connections=200",
            # A killed server loses nothing that it acknowledged; only a machine without power does.
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=128M",
            "--innodb-doublewrite=0",
        ]


class ServerPark:
    """The servers of one pytest session: each started at its first use, all stopped at the end."""

    def __init__(self, *, postgres_url: str | None = None, mysql_url: str | None = None) -> None:
        self._makers: Mapping[str, Callable[[], Server]] = {
            "postgresql": lambda: (
                NamedPostgreSQL(postgres_url) if postgres_url else PrivatePostgreSQL()
            ),
            "mariadb": lambda: NamedMariaDB(mysql_url) if mysql_url else PrivateMariaDB(),
        }
        self._servers: dict[str, Server] = {}
        self._reasons: dict[str, str] = {}

    def get(self, name: str) -> Server:
        """The running server of that name.

        Raises:
            BackendMissingError: This machine cannot offer it. The first reason is kept.
        """
        if name in self._reasons:
            raise BackendMissingError(self._reasons[name])
        try:
            server = self._servers.get(name)
            if server is None:
                server = self._servers[name] = self._makers[name]()
            server.start()
        except BackendMissingError as error:
            self._reasons[name] = str(error)
            raise
        return server

    def find(self) -> dict[str, str]:
        """Why each missing backend is missing, found without starting anything."""
        missing: dict[str, str] = {}
        for name, make in self._makers.items():
            try:
                make()
            except BackendMissingError as error:
                missing[name] = str(error)
        return missing

    def close(self) -> None:
        """Stop every server and remove its data."""
        servers, self._servers = self._servers, {}
        for server in servers.values():
            server.close()


def find_postgresql() -> Path:
    """The directory of the newest installed PostgreSQL's binaries."""
    candidates = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda path: [int(part) for part in re.findall(r"\d+", path.parent.name)],
        reverse=True,
    )
    on_path = shutil.which("postgres")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    for candidate in candidates:
        if all((candidate / name).exists() for name in ("initdb", "postgres")):
            return candidate
    raise BackendMissingError(
        "no PostgreSQL server is installed (initdb, postgres): install the package 'postgresql', "
        "or name a server with --postgres-url"
    )


def find_mariadb() -> tuple[Path, Path]:
    """The MariaDB server and the program that makes its data directory."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    server = shutil.which("mariadbd", path=path)
    installer = shutil.which("mariadb-install-db", path=path)
    if server and installer:
        return Path(server), Path(installer)
    raise BackendMissingError(
        "no MariaDB server is installed (mariadbd, mariadb-install-db): install the package "
        "'mariadb-server-core', or name a server with --mysql-url"
    )


def installed_version(binary: Path) -> str:
    """What a server's binary says of its version."""
    try:
        said = subprocess.run(
            [str(binary), "--version"], capture_output=True, text=True, check=True, timeout=20
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({error})"
    found = re.search(r"\d+\.\d+(?:\.\d+)?", said)
    return found[0] if found else said.strip()


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class _Owner:
    """The user that a private server runs as: never root, because the servers refuse it."""

    def __init__(self, name: str, uid: int | None = None, gid: int | None = None) -> None:
        self.name = name
        self.user = uid
        self.group = gid
        self.extra_groups: list[int] | None = None if uid is None else []

    @classmethod
    def current(cls) -> _Owner:
        if os.geteuid() != 0:
            return cls(pwd.getpwuid(os.geteuid()).pw_name)
        nobody = pwd.getpwnam("nobody")
        return cls("nobody", nobody.pw_uid, nobody.pw_gid)


MEMORY = Path("/dev/shm")
"""Where a disk is memory: commits do not wait, and a killed process loses no more than on disk."""


def _readable_temporary_directory(owner: _Owner) -> Path:
    """A new directory that belongs to the owner, in the first temporary place that it can enter."""
    in_memory = [MEMORY] if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30 else []
    for base in dict.fromkeys([*map(str, in_memory), tempfile.gettempdir(), "/tmp", "/var/tmp"]):
        place = Path(base).resolve()
        if owner.user is not None and not _everybody_may_enter(place):
            continue
        # A socket's path is limited to about 100 characters: keep it short.
        home = Path(tempfile.mkdtemp(prefix="lgss-", dir=place))
        if owner.user is not None and owner.group is not None:
            os.chown(home, owner.user, owner.group)
        return home
    raise ServerStartError(f"no temporary directory that the user {owner.name} may enter")


def _everybody_may_enter(path: Path) -> bool:
    return path.is_dir() and all(
        part.stat().st_mode & 0o001 for part in (path, *path.parents) if part.exists()
    )


def _dying_with_pytest(how: signal.Signals, command: list[str]) -> list[str]:
    """The command, where possible such that pytest's death, even by SIGKILL, signals it."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    # The kernel means the thread that started the server: one that ends must not take it along.
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return command
    return [setpriv, "--pdeathsig", how.name.removeprefix("SIG"), "--", *command]
