"""etcd, API server, controller manager and scheduler of one instance.

Alone they are what tests of the Kubernetes API need: pods stay Pending. With a `Node` they run pods.
"""

import http.client
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from testbed import ports
from testbed.cluster import binaries, kubeconfig
from testbed.cluster.pki import Login, Pki
from testbed.paths import Instance
from testbed.process import Daemon, wait_until
from testbed.progress import Progress, Silent

NODE_LOGIN = "kubelet"
_MASTERS = ("system:masters",)
LOOPBACK = "127.0.0.1"
_READY_SECONDS = 120  # a few on an idle machine; others may be busy here too


class ControlPlane:
    """Started on free ports of this machine; parallel instances do not meet.

    `address` is what a node reaches; without it the API server listens on the loopback only.
    `etcd`, `apiserver`, `controller_manager` and `scheduler` are daemons, to be frozen or killed by tests.
    """

    def __init__(
        self,
        instance: Instance,
        progress: Progress | None = None,
        *,
        address: str = LOOPBACK,
        service_cidr: str = "10.96.0.0/16",
        node_name: str = "node",
    ) -> None:
        self.instance = instance
        self.address = address
        self.port = ports.reserve(instance, "kube-apiserver")
        self.pki = Pki(instance.data / "pki")
        self._progress = progress or Silent()
        self._service_cidr = service_cidr
        self._node_name = node_name
        self._etcd_port = ports.reserve(instance, "etcd")
        programs = binaries.ensure(binaries.CONTROL_PLANE, self._progress)
        self._programs = programs
        self.etcd = self._etcd()
        self.apiserver = self._apiserver()
        self.controller_manager = self._controller_manager()
        self.scheduler = self._scheduler()

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, for use on this machine."""
        return self.instance.root / "kubeconfig"

    @property
    def kubectl(self) -> Path:
        return self._programs["kubectl"]

    @property
    def server(self) -> str:
        return f"https://{LOOPBACK}:{self.port}"

    def start(self) -> Path:
        """Brings the control plane up and returns the administrator's kubeconfig; twice is harmless.

        Raises TestbedError with the end of the log of what did not come up.
        """
        self.pki.create(self._server_names(), self._logins())
        kubeconfig.write(
            self.kubeconfig, server=self.server, authority=self.pki.authority, token=self.pki.token("admin")
        )
        binaries.link({"kubectl": self.kubectl}, self.instance.root / "bin")
        with self._progress.step("Starting the Kubernetes control plane"):
            self.etcd.start()
            for login in ("controller-manager", "scheduler"):
                self.client_config(login)
            # The last two try again until the API server answers, so all three start at once.
            with ThreadPoolExecutor() as pool:
                for start in [
                    pool.submit(daemon.start)
                    for daemon in (self.apiserver, self.controller_manager, self.scheduler)
                ]:
                    start.result()
            # Until a controller has made it, every pod in the namespace is refused.
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            what = "The service account of the namespace `default`"
            wait_until(lambda: self.healthy(account), _READY_SECONDS, what)
        return self.kubeconfig

    def stop(self) -> None:
        """Ends everything; data stay for the next start. Harmless when nothing runs."""
        self.end(self.instance)

    @staticmethod
    def end(instance: Instance) -> None:
        """stop() for who only knows the instance: builds and reserves nothing."""
        # The API server waits for open watches when asked politely; etcd has everything it confirmed.
        for name in ("kube-scheduler", "kube-controller-manager", "kube-apiserver"):
            Daemon(instance, name, ()).kill()
        Daemon(instance, "etcd", ()).stop()

    def client_config(self, login: str, server: str | None = None, path: Path | None = None) -> Path:
        """The kubeconfig of a component."""
        return kubeconfig.write(
            path or self.instance.data / "kubeconfig" / login,
            server=server or self.server,
            authority=self.pki.authority,
            token=self.pki.token(login),
        )

    def healthy(self, path: str = "/readyz") -> bool:
        """Whether the API server says it is ready, or gives the administrator what is at another path."""
        return _answers(self.port, path, self.pki.authority, self.pki.token("admin"))

    def _logins(self) -> tuple[Login, ...]:
        return (
            Login("admin", "admin", _MASTERS),
            Login("controller-manager", "system:kube-controller-manager"),
            Login("scheduler", "system:kube-scheduler"),
            Login(NODE_LOGIN, f"system:node:{self._node_name}", ("system:nodes",)),
            Login("proxy", "system:kube-proxy"),
            Login("dns", "lucid-testbed:dns", _MASTERS),
        )

    def _server_names(self) -> list[str]:
        first = self._service_cidr.split("/")[0].rpartition(".")[0] + ".1"
        names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        names.append("kubernetes.default.svc.cluster.local")
        return [f"DNS:{name}" for name in names] + [f"IP:{ip}" for ip in {LOOPBACK, self.address, first}]

    def _daemon(self, name: str, command: Sequence[str | Path], ready: Callable[[], bool]) -> Daemon:
        # Go collects garbage whenever the heap has doubled, which is all the time where little is kept.
        env = {"GOGC": "400"}
        return Daemon(self.instance, name, command, env=env, ready=ready, ready_deadline=_READY_SECONDS)

    def _etcd(self) -> Daemon:
        client = f"http://{LOOPBACK}:{self._etcd_port}"
        peer = f"http://{LOOPBACK}:{ports.reserve(self.instance, 'etcd-peer')}"
        command: list[str | Path] = [
            self._programs["etcd"],
            "--name=lucid",
            f"--data-dir={self.instance.data / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=lucid={peer}",
            # Losing the last second after a power cut is fine here, and waiting for the disk is not.
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]
        return self._daemon("etcd", command, lambda: _answers(self._etcd_port, "/health"))

    def _apiserver(self) -> Daemon:
        pki = self.pki
        local = self.address == LOOPBACK
        command: list[str | Path] = [
            self._programs["kube-apiserver"],
            f"--etcd-servers=http://{LOOPBACK}:{self._etcd_port}",
            f"--secure-port={self.port}",
            f"--bind-address={LOOPBACK if local else '0.0.0.0'}",
            # Nobody reaches the service `kubernetes` without a node, and a loopback address is refused there.
            *(["--endpoint-reconciler-type=none"] if local else [f"--advertise-address={self.address}"]),
            f"--service-cluster-ip-range={self._service_cidr}",
            f"--token-auth-file={pki.tokens}",
            "--authorization-mode=Node,RBAC",
            f"--client-ca-file={pki.authority}",
            f"--tls-cert-file={pki.certificate('server')}",
            f"--tls-private-key-file={pki.key('server')}",
            f"--service-account-key-file={pki.service_account_key}",
            f"--service-account-signing-key-file={pki.service_account_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--kubelet-client-certificate={pki.certificate('kubelet-client')}",
            f"--kubelet-client-key={pki.key('kubelet-client')}",
            # Where there is no node, tests play kubelet with a certificate of their own.
            *([] if local else [f"--kubelet-certificate-authority={pki.authority}"]),
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
        ]
        return self._daemon("kube-apiserver", command, self.healthy)

    def _controller_manager(self) -> Daemon:
        port = ports.reserve(self.instance, "kube-controller-manager")
        command: list[str | Path] = [
            self._programs["kube-controller-manager"],
            f"--kubeconfig={self.instance.data / 'kubeconfig' / 'controller-manager'}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={port}",
            f"--service-account-private-key-file={self.pki.service_account_key}",
            f"--root-ca-file={self.pki.authority}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ]
        return self._daemon("kube-controller-manager", command, lambda: _answers(port, "/healthz"))

    def _scheduler(self) -> Daemon:
        port = ports.reserve(self.instance, "kube-scheduler")
        command: list[str | Path] = [
            self._programs["kube-scheduler"],
            f"--kubeconfig={self.instance.data / 'kubeconfig' / 'scheduler'}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={port}",
            "--leader-elect=false",
        ]
        return self._daemon("kube-scheduler", command, lambda: _answers(port, "/healthz"))


def _answers(port: int, path: str, authority: Path | None = None, token: str = "") -> bool:
    """Whether GET gives 200. Etcd speaks plain HTTP; without `authority` the certificate is not checked."""
    connection: http.client.HTTPConnection
    if path == "/health":
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    else:
        context = ssl.create_default_context(cafile=str(authority) if authority else None)
        if authority is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(LOOPBACK, port, timeout=2, context=context)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
