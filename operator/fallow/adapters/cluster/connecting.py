"""A person's way to a cluster: by the kubeconfig that is named, else their own, else as the pod's ServiceAccount."""

from __future__ import annotations

from pathlib import Path

from kubernetes.aio import client, config

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


async def connected(kubeconfig: Path | None, context: str | None) -> client.ApiClient:
    """A client that its caller closes. Raises ValueError where there is no such cluster."""
    configuration = client.Configuration()
    try:
        if in_a_pod(kubeconfig):
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            file = None if kubeconfig is None else str(kubeconfig)
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=file, context=context, client_configuration=configuration
            )
    except (config.ConfigException, OSError) as error:
        raise ValueError(f"no cluster to ask: {error}; name a kubeconfig with --kubeconfig") from error
    return client.ApiClient(configuration)


def in_a_pod(kubeconfig: Path | None) -> bool:
    return kubeconfig is None and _ACCOUNT.exists()


def context_name(kubeconfig: Path | None, context: str | None) -> str:
    """What the kubeconfig calls the cluster that is asked; empty where nothing calls it anything, as in a pod."""
    if context is not None or in_a_pod(kubeconfig):
        return context or ""
    try:
        _, current = config.list_kube_config_contexts(  # type: ignore[no-untyped-call]
            config_file=None if kubeconfig is None else str(kubeconfig)
        )
    except (config.ConfigException, OSError):
        return ""
    return str((current or {}).get("name") or "")
