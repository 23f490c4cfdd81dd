"""Who may talk to the API server: one token per program, so that the audit log tells them apart."""

from __future__ import annotations

import base64
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ADMIN = "admin"
CONTROLLER_MANAGER = "system:kube-controller-manager"
SCHEDULER = "system:kube-scheduler"
KWOK = "kwok"
PROMETHEUS = "prometheus"

# The first group is Kubernetes' own cluster-admin; the two system users get their rules by name.
GROUPS = {
    ADMIN: "system:masters",
    CONTROLLER_MANAGER: "",
    SCHEDULER: "",
    KWOK: "system:masters",
    PROMETHEUS: "system:masters",
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Fresh tokens for one cluster."""

    tokens: dict[str, str] = field(default_factory=lambda: {user: secrets.token_hex(16) for user in GROUPS})

    def write_token_file(self, path: Path) -> None:
        lines = (
            f'{token},"{user}","{user}"' + (f',"{GROUPS[user]}"' if GROUPS[user] else "")
            for user, token in self.tokens.items()
        )
        write_private(path, "\n".join(lines) + "\n")

    def write_kubeconfig(self, path: Path, *, user: str, server: str, authority: Path) -> Path:
        return write_kubeconfig(path, token=self.tokens[user], user=user, server=server, authority=authority)


def write_kubeconfig(
    path: Path, *, token: str, user: str, server: str, authority: Path, namespace: str = "default"
) -> Path:
    """A kubeconfig that stands on its own: certificate and token are in it."""
    certificate = base64.b64encode(authority.read_bytes()).decode()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fallow", "cluster": {"server": server, "certificate-authority-data": certificate}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "fallow", "context": {"cluster": "fallow", "user": user, "namespace": namespace}}],
        "current-context": "fallow",
    }
    write_private(path, yaml.safe_dump(content))
    return path


def write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(text)


# The order of the curve's base point (FIPS 186-4, P-256) and the fixed frame of RFC 5915 around the number.
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY_FRAME = ("30310201010420", "a00a06082a8648ce3d030107")


def new_signing_key() -> str:
    """A P-256 private key in PEM, with which the API server signs ServiceAccount tokens."""
    number = secrets.randbelow(P256_ORDER - 1) + 1
    before, after = (bytes.fromhex(part) for part in KEY_FRAME)
    body = base64.b64encode(before + number.to_bytes(32, "big") + after).decode()
    lines = "\n".join(body[start : start + 64] for start in range(0, len(body), 64))
    return f"-----BEGIN EC PRIVATE KEY-----\n{lines}\n-----END EC PRIVATE KEY-----\n"
