"""Keys and certificates of one instance, made with openssl.

One authority signs the certificates of the API server and the kubelet, and the one with which the first calls
the second.
Elliptic keys, because they are made in milliseconds. Everybody else logs in by token.
"""

import json
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import TestbedError

_DAYS = "3650"


@dataclass(frozen=True)
class Login:
    """A user of the API server's token file."""

    name: str
    user: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pki:
    """The files below `folder`; create() makes what is missing."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def service_account_key(self) -> Path:
        return self.folder / "service-account.key"

    @property
    def tokens(self) -> Path:
        """The API server's token file."""
        return self.folder / "tokens.csv"

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def create(self, server_names: Sequence[str], logins: Sequence[Login]) -> None:
        """Makes what is missing, and a new server certificate when its names have changed.

        `server_names` are subject alternative names as openssl writes them: `DNS:localhost`, `IP:127.0.0.1`.
        Raises TestbedError when openssl is missing or fails.
        """
        if shutil.which("openssl") is None:
            raise TestbedError("openssl is needed for certificates; install it: apt-get install openssl.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        if not self.authority.exists():
            self._make_authority()
        if not self.service_account_key.exists():
            self._make_key(self.service_account_key)
        if not self.certificate("kubelet-client").exists():
            self._sign("kubelet-client", "/O=system:masters/CN=kube-apiserver", "clientAuth", "")
        self.serve("server", server_names)
        self._make_tokens(logins)

    def serve(self, name: str, server_names: Sequence[str]) -> None:
        """Makes a server's certificate when there is none, or its names have changed."""
        names = ",".join(sorted(set(server_names)))
        known = self.folder / f"{name}.names"
        if not known.exists() or known.read_text() != names:
            self._sign(name, f"/CN={name}", "serverAuth", f"subjectAltName={names}\n")
            known.write_text(names)

    def token(self, login: str) -> str:
        """The secret of a login that create() was given."""
        tokens: dict[str, str] = json.loads((self.folder / "tokens.json").read_text())
        return tokens[login]

    def _make_tokens(self, logins: Sequence[Login]) -> None:
        store = self.folder / "tokens.json"
        tokens: dict[str, str] = json.loads(store.read_text()) if store.exists() else {}
        for login in logins:
            tokens.setdefault(login.name, secrets.token_hex(16))
        store.write_text(json.dumps(tokens))
        with self.tokens.open("w") as table:
            for login in logins:
                groups = ",".join(login.groups)
                table.write(f'{tokens[login.name]},{login.user},{login.name},"{groups}"\n')

    def _make_authority(self) -> None:
        self._make_key(self.key("ca"))
        request: list[str | Path] = [
            "req",
            "-x509",
            "-new",
            "-key",
            self.key("ca"),
            "-days",
            _DAYS,
            "-out",
            self.authority,
        ]
        subject = ["-subj", "/CN=lucid-testbed-ca", "-addext", "basicConstraints=critical,CA:TRUE"]
        _openssl(*request, *subject, "-addext", "keyUsage=critical,keyCertSign")

    def _make_key(self, path: Path) -> None:
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
        path.chmod(0o600)

    def _sign(self, name: str, subject: str, usage: str, extension: str) -> None:
        self._make_key(self.key(name))
        request = self.folder / f"{name}.csr"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"keyUsage=digitalSignature\nextendedKeyUsage={usage}\n{extension}")
        _openssl("req", "-new", "-key", self.key(name), "-subj", subject, "-out", request)
        serial: list[str | Path] = [
            "-set_serial",
            str(secrets.randbits(64)),
            "-days",
            _DAYS,
            "-extfile",
            extensions,
        ]
        authority: list[str | Path] = ["-CA", self.authority, "-CAkey", self.key("ca")]
        _openssl("x509", "-req", "-in", request, *authority, *serial, "-out", self.certificate(name))


def _openssl(*arguments: str | Path) -> None:
    answer = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        said = answer.stderr.strip()
        raise TestbedError(f"openssl {arguments[0]} failed; check the installed openssl:\n{said}")
