"""A single-node Elasticsearch 8: the distribution that its makers publish for integration tests.

It is a real server with search, aliases, index templates, `fs` snapshots and security; it has no ILM, no SLM,
no `_reindex`, no painless, and `GET /` answers 405.
"""

import base64
import hashlib
import json
import os
import secrets
import shutil
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

from testbed import ports, software
from testbed.paths import Instance
from testbed.process import Daemon
from testbed.progress import Progress, Silent
from testbed.stores.one_process import OneProcess
from testbed.stores.password import drawn

DEFAULT_VERSION = "8.19.21"
OLDEST_VERSION = "8.11.0"
USER = "lucid"

_LOOPBACK = "127.0.0.1"
_ARTIFACT = "org.elasticsearch.distribution.integ-test-zip:elasticsearch:{version}:zip"
_ADVICE = "Elasticsearch comes through Maven and needs Java 17: install maven and openjdk-17-jdk-headless."


def ensure(version: str, progress: Progress) -> Path:
    """The home of that version, fetched into the cache when it is not there."""
    folder = software.once(f"elasticsearch-{version}", lambda draft: _fetch(version, draft, progress))
    return folder / f"elasticsearch-{version}"


class Elasticsearch(OneProcess):
    """A server that keeps its data and a snapshot repository folder in the instance.

    With `security` the user `lucid` with the role `superuser` must log in; its password is drawn once and
    kept in the instance.
    """

    def __init__(
        self,
        instance: Instance,
        name: str = "elasticsearch",
        *,
        version: str = DEFAULT_VERSION,
        host: str = _LOOPBACK,
        security: bool = False,
        heap_mib: int = 512,
        settings: dict[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.instance = instance
        self.name = name
        self.version = version
        self.host = host
        self.port = ports.reserve(instance, name)
        self.folder = instance.data / name
        self.snapshots = self.folder / "snapshots"
        self.password = drawn(self._password_file) if security else None
        self._heap_mib = heap_mib
        self._settings = dict(settings or {})
        self._progress = progress or Silent()
        self._server: Daemon | None = None

    @property
    def url(self) -> str:
        login = f"{USER}:{self.password}@" if self.password else ""
        return f"http://{login}{self.host}:{self.port}"

    @property
    def daemon(self) -> Daemon:
        """The process of the server; raises TestbedError when the distribution or Java cannot be had."""
        if self._server is None:
            home = ensure(self.version, self._progress)
            self._write_configuration(home)
            # The server refuses to run as root. In a user namespace it sees another user, while files stay
            # the caller's own, so it reaches its folders wherever they are.
            command: list[str | Path] = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
            command = [*(command if os.geteuid() == 0 else []), home / "bin" / "elasticsearch"]
            self._server = Daemon(
                self.instance,
                self.name,
                command,
                env=self._environment(),
                ready=self._answers,
                ready_deadline=240,  # 6 s on an idle machine, minutes on an overloaded one
                stop_deadline=30,
            )
        return self._server

    def request(self, method: str, path: str, body: object = None) -> Any:
        """One request over the loopback, with the login; raises urllib's errors."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self.password:
            token = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
            headers["Authorization"] = f"Basic {token}"
        url = f"http://{_LOOPBACK}:{self.port}{path}"
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def delete_with_prefix(self, prefix: str) -> None:
        """Deletes the indices and templates whose names begin so."""
        for index in self.request("GET", f"/{prefix}*/_settings?expand_wildcards=all"):
            self.request("DELETE", f"/{index}")
        templates = self.request("GET", "/_index_template")["index_templates"]
        for name in [template["name"] for template in templates]:
            if name.startswith(prefix):
                self.request("DELETE", f"/_index_template/{name}")
        components = self.request("GET", "/_component_template")["component_templates"]
        for name in [component["name"] for component in components]:
            if name.startswith(prefix):
                self.request("DELETE", f"/_component_template/{name}")

    def set_password(self, password: str) -> None:
        """Changes the password; the running server takes it within a second."""
        self.password = password
        self._password_file.write_text(password)
        self._write_users()

    def _answers(self) -> bool:
        try:
            health = self.request("GET", "/_cluster/health")
        except (OSError, ValueError):
            return False
        return not health["timed_out"] and health["status"] in ("green", "yellow")

    @property
    def _configuration(self) -> Path:
        return self.folder / "config"

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"

    def _environment(self) -> dict[str, str]:
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        java_home = os.environ.get("JAVA_HOME") or str(Path(_java()).resolve().parents[1])
        heap = f"-Xms{self._heap_mib}m -Xmx{self._heap_mib}m"
        # A start costs more processor time than most tests: no optimizing compiler, no check of classes that the
        # makers checked, and no page of the heap is touched before it is used.
        quick = "-XX:TieredStopAtLevel=1 -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
        return {
            "ES_JAVA_HOME": java_home,
            "ES_PATH_CONF": str(self._configuration),
            "ES_TMPDIR": str(temporary),
            "ES_JAVA_OPTS": f"{heap} {quick} -XX:-AlwaysPreTouch",
            "CLI_JAVA_OPTS": f"-Xmx64m {quick}",
        }

    def _write_configuration(self, home: Path) -> None:
        self._configuration.mkdir(parents=True, exist_ok=True)
        self.snapshots.mkdir(exist_ok=True)
        for name in ("log4j2.properties", "roles.yml", "role_mapping.yml"):
            shutil.copyfile(home / "config" / name, self._configuration / name)
        options = (home / "config" / "jvm.options").read_text()
        # One thread collects a small heap with less work than several.
        (self._configuration / "jvm.options").write_text(options.replace("UseG1GC", "UseSerialGC"))
        settings = {
            "cluster.name": "lucid-testbed",
            "node.name": self.name,
            "discovery.type": "single-node",
            "path.data": str(self.folder / "data"),
            "path.logs": str(self.folder / "logs"),
            "path.repo": str(self.snapshots),
            "http.port": str(self.port),
            "http.host": json.dumps(sorted({_LOOPBACK, self.host})),
            "transport.host": _LOOPBACK,
            "transport.port": str(ports.reserve(self.instance, f"{self.name}-transport")),
            # A full disk of the machine must not turn indices read-only in the middle of a test.
            "cluster.routing.allocation.disk.threshold_enabled": "false",
            # Points in time and scrolls end when their time is over, and not up to a minute later.
            "search.keep_alive_interval": "200ms",
            # Files of users and roles that were changed are read again.
            "resource.reload.interval.high": "500ms",
            "xpack.security.enabled": "true" if self.password else "false",
            "xpack.security.autoconfiguration.enabled": "false",
            **self._settings,
        }
        lines = [f"{name}: {value}\n" for name, value in settings.items()]
        (self._configuration / "elasticsearch.yml").write_text("".join(lines))
        self._write_users()

    def _write_users(self) -> None:
        users = f"{USER}:{_password_hash(self.password)}\n" if self.password else ""
        (self._configuration / "users").write_text(users)
        (self._configuration / "users_roles").write_text(f"superuser:{USER}\n" if users else "")


def _password_hash(password: str) -> str:
    """The form that Elasticsearch's file realm calls PBKDF2: SHA-512, 32 bytes of salt, 32 bytes of key."""
    salt, rounds = secrets.token_bytes(32), 10_000
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds, 32)
    return f"{{PBKDF2}}{rounds}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def _java() -> str:
    return shutil.which("java") or software.run(["java", "-version"], _ADVICE)


def _fetch(version: str, folder: Path, progress: Progress) -> None:
    artifact = _ARTIFACT.format(version=version)
    copy = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
    with progress.step(f"Fetching Elasticsearch {version}"):
        software.run(copy, _ADVICE)
        (packed,) = folder.glob("*.zip")
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(folder)
        packed.unlink()
        for program in (folder / f"elasticsearch-{version}" / "bin").iterdir():
            program.chmod(0o755)
