"""Clusters of private servers: MariaDB Galera, and PostgreSQL with synchronous standbys."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pymysql
import pytest
from sqlalchemy import URL

from tests.support.servers import (
    PASSWORD,
    START_SECONDS,
    BackendMissingError,
    PrivateMariaDB,
    PrivatePostgreSQL,
    free_port,
)

GALERA_LIBRARIES = (
    Path("/usr/lib/galera/libgalera_smm.so"),
    Path("/usr/lib64/galera-4/libgalera_smm.so"),
)
SUSPECTED_AFTER, EXPELLED_AFTER = "PT2S", "PT6S"
"""A node that is silent for so long is suspected, and then left out; less made nodes flap."""


def find_galera() -> Path:
    """The library that makes a MariaDB server a node of a Galera cluster.

    Raises:
        BackendMissingError: It, or what copies a node's data to another, is not installed.
    """
    for library in GALERA_LIBRARIES:
        if library.exists() and shutil.which("wsrep_sst_rsync") and shutil.which("rsync"):
            return library
    raise BackendMissingError(
        "Galera is not installed: install the packages 'mariadb-server', 'galera-4' and 'rsync'"
    )


class GaleraNode(PrivateMariaDB):
    """A server of a Galera cluster: its data is copied from another, but for the first one's."""

    def __init__(self, group_ports: Sequence[int], number: int) -> None:
        super().__init__()
        self._library = find_galera()
        self._group_ports = group_ports
        self._number = number
        self._state_port, self._increment_port = free_port(), free_port()
        self._founds = number == 0

    def start(self) -> None:
        super().start()
        self._founds = False

    def status(self, name: str) -> str:
        """What the node says of itself, with or without a quorum."""
        return str(self._ask("SHOW STATUS LIKE %s", f"wsrep_{name}")[1])

    def has_query(self, database: str) -> bool:
        """Whether a statement runs, or waits, in a database."""
        asked = (
            "SELECT count(*) FROM information_schema.processlist "
            "WHERE db = %s AND command = 'Query'"
        )
        return bool(self._ask(asked, database)[0])

    def _ask(self, query: str, parameter: str) -> Any:
        # Not by SQLAlchemy, which ends with a ROLLBACK that a node without a quorum refuses.
        connection = pymysql.connect(
            host=self.host,
            port=self.port,
            user=self.address.username,
            password=PASSWORD,
            ssl_disabled=True,
            autocommit=True,
        )
        with closing(connection), connection.cursor() as cursor:
            cursor.execute(query, (parameter,))
            return cursor.fetchone()

    def wait_until(self, name: str, value: str) -> None:
        """Wait until the node says so of itself."""
        deadline = time.monotonic() + START_SECONDS
        while self.status(name) != value:
            assert time.monotonic() < deadline, f"{name} is still {self.status(name)}"
            time.sleep(0.05)

    def _initialise(self) -> None:
        if self._founds:
            super()._initialise()
        else:
            self._run_tool(["mkdir", str(self.home / "data")])
            (self.home / "init.sql").write_text("")

    def _command(self) -> list[str]:
        address = f"127.0.0.1:{self._group_ports[self._number]}"
        others = ",".join(f"127.0.0.1:{port}" for port in self._group_ports)
        provider = {
            "gmcast.listen_addr": f"tcp://{address}",
            "ist.recv_addr": f"127.0.0.1:{self._increment_port}",
            "evs.keepalive_period": "PT0.5S",
            "evs.suspect_timeout": SUSPECTED_AFTER,
            "evs.inactive_timeout": EXPELLED_AFTER,
            "evs.install_timeout": "PT5S",
            "gcache.size": "16M",
            "pc.recovery": "FALSE",
        }
        return [
            *super()._command(),
            *("--wsrep-on=ON", f"--wsrep-provider={self._library}"),
            *("--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--innodb-log-file-size=16M"),
            f"--wsrep-node-address={address}",
            f"--wsrep-node-name=node-{self._number}",
            f"--wsrep-cluster-address=gcomm://{'' if self._founds else others}",
            *(["--wsrep-new-cluster"] if self._founds else []),
            "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address=127.0.0.1:{self._state_port}",
            f"--wsrep-provider-options={';'.join(f'{k}={v}' for k, v in provider.items())}",
        ]


class GaleraCluster:
    """Three nodes on which each test gets a database of its own."""

    def __init__(self) -> None:
        ports = [free_port() for _ in range(3)]
        self.nodes = [GaleraNode(ports, number) for number in range(3)]

    def start(self) -> None:
        """Start the nodes one after the other: each gets its data from those that run."""
        for node in self.nodes:
            node.start()

    def close(self) -> None:
        """Kill the nodes, and remove their data."""
        for node in self.nodes:
            node.kill()
            node.close()


class PostgreSQLNode(PrivatePostgreSQL):
    """A PostgreSQL server whose commits wait for one of its standbys, or that is a standby."""

    def __init__(self) -> None:
        super().__init__()
        self._source: PostgreSQLNode | None = None

    def follow(self, source: PostgreSQLNode) -> None:
        """Be a standby of a server: a new copy of it, or, where this one runs, from now on."""
        self._source = source
        if self.running:
            address = f"host={source.host} port={source.port} user=postgres"
            self._run(f"ALTER SYSTEM SET primary_conninfo = '{address}'", "SELECT pg_reload_conf()")
        else:
            shutil.rmtree(self.data, ignore_errors=True)
            self._initialise()
            self.start()

    def promote(self) -> None:
        """Make a standby a primary."""
        self._source = None
        self._run("SELECT pg_promote()")

    def make_read_only(self) -> None:
        """Refuse writes on all connections, also on those that are open."""
        self._run("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")

    @property
    def received(self) -> int:
        """The bytes of write-ahead log that a standby has."""
        return int(str(self._run("SELECT pg_last_wal_receive_lsn() - '0/0'")[0][0]))

    def wait_for_standbys(self, count: int) -> None:
        """Wait until so many standbys follow."""
        deadline = time.monotonic() + START_SECONDS
        asked = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        while self._run(asked) != [(count,)]:
            assert time.monotonic() < deadline, self._log_tail()
            time.sleep(0.02)

    def _initialise(self) -> None:
        if self._source is None:
            super()._initialise()
            return
        self._run_tool(
            [
                *(str(self._binaries / "pg_basebackup"), "-D", str(self.data), "-R", "--no-sync"),
                *("-X", "stream", "-c", "fast"),
                *("-d", f"host={self._source.host} port={self._source.port} user=postgres"),
            ]
        )

    def _command(self) -> list[str]:
        return [
            *super()._command(),
            *("-c", "synchronous_standby_names=ANY 1 (*)"),
            *("-c", "wal_keep_size=256MB", "-c", "full_page_writes=on"),
        ]


class PostgreSQLCluster:
    """A primary and two standbys, to one of which each commit is copied before it returns."""

    def __init__(self) -> None:
        self.nodes = [PostgreSQLNode() for _ in range(3)]
        self.primary = self.nodes[0]

    def start(self) -> None:
        """Start the primary and two copies of it."""
        self.primary.start()
        for node in self.nodes[1:]:
            node.follow(self.primary)
        self.primary.wait_for_standbys(2)

    def close(self) -> None:
        """Kill the servers, and remove their data."""
        for node in self.nodes:
            node.kill()
            node.close()

    def url(self, database: str, driver: str) -> str:
        """A URL that names all servers, and leads to the one that takes writes."""
        url = URL.create(
            f"postgresql+{driver}",
            username="postgres",
            database=database,
            query={
                "host": tuple(f"127.0.0.1:{node.port}" for node in self.nodes),
                "target_session_attrs": "read-write",
            },
        )
        return url.render_as_string(hide_password=False)

    def fail_over(self) -> None:
        """Kill the primary, and promote the standby that has most."""
        self.primary.kill()
        self._promote_another()

    def switch_over(self) -> PostgreSQLNode:
        """Make the primary read-only, and promote a standby.

        Returns:
            The server that was the primary. It keeps its connections.
        """
        demoted = self.primary
        demoted.make_read_only()
        self._promote_another()
        return demoted

    def _promote_another(self) -> None:
        standbys = [node for node in self.nodes if node is not self.primary]
        self.primary, behind = sorted(standbys, key=lambda node: node.received, reverse=True)
        self.primary.promote()
        behind.follow(self.primary)

    def replace(self) -> None:
        """Make new standbys of the servers that do not run."""
        for node in self.nodes:
            if not node.running:
                node.follow(self.primary)
        self.primary.wait_for_standbys(2)


C = TypeVar("C", GaleraCluster, PostgreSQLCluster)


@contextmanager
def running(kind: type[C]) -> Iterator[C]:
    """Start a cluster, and close it in the end; skips the test where it is not installed."""
    try:
        cluster = kind()
    except BackendMissingError as error:
        pytest.skip(str(error))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()
