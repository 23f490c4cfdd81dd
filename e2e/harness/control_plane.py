"""etcd, kube-apiserver, controller-manager and scheduler, started in order on free ports."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from pathlib import Path

from e2e.harness.credentials import (
    ADMIN,
    CONTROLLER_MANAGER,
    SCHEDULER,
    Credentials,
    new_signing_key,
    write_private,
)
from e2e.harness.process import Program, free_ports

START_LIMIT = 60.0

# Without a default route the API server cannot choose an address to advertise; this one is local too.
ADVERTISED = "198.19.255.254"
SERVICES = "10.96.0.0/16"

# The defaults (20 per second) would make a fleet of hundreds of pods take minutes to appear.
CLIENT_RATE = ("--kube-api-qps=400", "--kube-api-burst=800")

# Metadata tells who did what to which object: enough to count writes and to compare calls with RBAC rules.
AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - {level: None, nonResourceURLs: ["/healthz*", "/readyz*", "/livez*", "/metrics", "/openapi/*"]}
  - level: Metadata
"""


class ControlPlane:
    """The four programs; `restart_apiserver` kills and starts the second one on the same port."""

    def __init__(self, programs: Mapping[str, Path], folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._credentials = Credentials()
        ports = free_ports(5)
        self._etcd_port, self._etcd_peer_port, self._port, self._controller_port, self._scheduler_port = ports
        self.server = f"https://127.0.0.1:{self._port}"
        self.authority = folder / "certificates" / "apiserver.crt"
        self.audit_log = folder / "audit.log"
        self._etcd = self._etcd_program()
        self._apiserver = self._apiserver_program()
        self._others: list[Program] = []

    def start(self) -> None:
        self._credentials.write_token_file(self._folder / "tokens.csv")
        (self._folder / "audit-policy.yaml").write_text(AUDIT_POLICY)
        write_private(self._folder / "service-accounts.key", new_signing_key())
        self._etcd.start()
        self._etcd.wait_until(
            lambda: answers_ok(http.client.HTTPConnection("127.0.0.1", self._etcd_port, timeout=2), "/health"),
            START_LIMIT,
        )
        self.start_apiserver()
        self._others = [self._controller_manager(), self._scheduler()]
        for program in self._others:
            program.start()

    def wait_until_whole(self) -> None:
        """Controllers and scheduler start beside whatever the caller starts meanwhile."""
        for program, port in zip(self._others, (self._controller_port, self._scheduler_port), strict=True):
            program.wait_until(lambda port=port: answers_ok(https(port), "/healthz"), START_LIMIT)  # type: ignore[misc]

    def kubeconfig(self, user: str) -> Path:
        name = user.removeprefix("system:")
        path = self._folder / f"{name}.kubeconfig"
        return self._credentials.write_kubeconfig(path, user=user, server=self.server, authority=self.authority)

    def start_apiserver(self) -> None:
        self._apiserver.start()
        self._apiserver.wait_until(self._is_ready, START_LIMIT)

    def stop_apiserver(self) -> None:
        """At once, as a crash would."""
        self._apiserver.kill()

    def running(self) -> list[Program]:
        return [self._etcd, self._apiserver, *self._others]

    def stop(self) -> None:
        """Clients first, the store last."""
        for program in self._others:
            program.ask_to_stop()
        for program in (*self._others, self._apiserver, self._etcd):
            # The API server would wait a minute for open watches; nothing here is worth it.
            program.stop(limit=1.0)

    def _is_ready(self) -> bool:
        token = self._credentials.tokens[ADMIN]
        return answers_ok(https(self._port), "/readyz", {"Authorization": f"Bearer {token}"})

    def _program(self, name: str, *arguments: str) -> Program:
        return Program(name, [str(self._programs[name]), *arguments], self._folder / f"{name}.log")

    def _etcd_program(self) -> Program:
        client = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{self._etcd_peer_port}"
        return self._program(
            "etcd",
            "--name=fallow",
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=fallow={peer}",
            # The store lives as long as the run; waiting for a disk would buy nothing.
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def _apiserver_program(self) -> Program:
        signing_key = self._folder / "service-accounts.key"
        return self._program(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--advertise-address={ADVERTISED}",
            # As kubeadm sets it: nodes are proxied to by address, and their names resolve nowhere.
            "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
            f"--cert-dir={self.authority.parent}",
            f"--token-auth-file={self._folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={signing_key}",
            f"--service-account-signing-key-file={signing_key}",
            f"--audit-log-path={self.audit_log}",
            f"--audit-policy-file={self._folder / 'audit-policy.yaml'}",
            "--audit-log-mode=blocking",
        )

    def _controller_manager(self) -> Program:
        kubeconfig = self.kubeconfig(CONTROLLER_MANAGER)
        return self._program(
            "kube-controller-manager",
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--authorization-always-allow-paths=/healthz",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._controller_port}",
            f"--cert-dir={self._folder / 'controller-manager'}",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self._folder / 'service-accounts.key'}",
            f"--root-ca-file={self.authority}",
            "--leader-elect=false",
            *CLIENT_RATE,
        )

    def _scheduler(self) -> Program:
        kubeconfig = self.kubeconfig(SCHEDULER)
        return self._program(
            "kube-scheduler",
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--authorization-always-allow-paths=/healthz",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._scheduler_port}",
            f"--cert-dir={self._folder / 'scheduler'}",
            "--leader-elect=false",
            *CLIENT_RATE,
        )


def https(port: int) -> http.client.HTTPSConnection:
    # Only a health check on loopback; clients proper verify the certificate.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=context)


def answers_ok(connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str] | None = None) -> bool:
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
