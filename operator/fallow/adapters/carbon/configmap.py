"""A carbon intensity that somebody else keeps up to date in a ConfigMap: one number, or a forecast as CSV or JSON."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient

from fallow.adapters.carbon import schedule
from fallow.adapters.carbon.parameters import text
from fallow.adapters.carbon.schedule import Written
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant
from fallow.domain.zones import Forecast, Intensity, IntensitySource

# By itself: the client's class of all core calls takes a third of the operator's start and 26 MB.
_PATH = "/api/v1/namespaces/{namespace}/configmaps/{name}"
_HINTS = {
    403: "allow the operator's ServiceAccount to get it",
    404: "create it, or correct namespace and name",
}


class ConfigMapCarbon:
    """Implements ports.CarbonSource for `namespace`, `name` and `key`, in data or binaryData."""

    def __init__(self, api: ApiClient, *, timeout: float = 5.0) -> None:
        self._api = api
        self._timeout = timeout

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        found = await self._content(source)
        return found if isinstance(found, Missing) else schedule.present(found[0], now, found[1])

    async def forecast(self, now: Instant, source: IntensitySource) -> Forecast | Missing:  # noqa: ARG002 - the port's shape
        found = await self._content(source)
        return found if isinstance(found, Missing) else schedule.forecast(*found)

    async def _content(self, source: IntensitySource) -> tuple[str, Written] | Missing:
        namespace, name = (text(source.parameters, word, source.kind) for word in ("namespace", "name"))
        key = source.parameters.get("key", "gramsPerKWh")
        for word in (namespace, name):
            if isinstance(word, Missing):
                return word
        where = f"ConfigMap {namespace}/{name}"
        data = await self._data(str(namespace), str(name), where)
        if isinstance(data, Missing):
            return data
        if key not in data:
            return Missing(Reason.NO_INTENSITY, f"{where} has no key {key}; it has {', '.join(sorted(data)) or 'none'}")
        return data[key], Written(f"{where}, key {key}", source.signal)

    async def _data(self, namespace: str, name: str, where: str) -> dict[str, str] | Missing:
        try:
            request = await self._api.param_serialize(
                "GET",
                _PATH,
                path_params={"namespace": namespace, "name": name},
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
            )
            answer: Any = await self._api.call_api(*request, _request_timeout=self._timeout)
            body: bytes = await answer.read()
        except TimeoutError:
            return Missing(Reason.SOURCE_UNREACHABLE, f"{where}: no answer within {self._timeout:g} s")
        except aiohttp.ClientError as error:
            return Missing(Reason.SOURCE_UNREACHABLE, f"{where}: {type(error).__name__}")
        if answer.status != 200:
            hint = _HINTS.get(answer.status, str(answer.reason or ""))
            reason = Reason.NO_INTENSITY if answer.status in _HINTS else Reason.SOURCE_UNREACHABLE
            return Missing(reason, f"{where}: {answer.status}; {hint}")
        try:
            return _texts(body)
        except (ValueError, TypeError) as error:
            return Missing(Reason.BAD_ANSWER, f"{where}: not an API server's answer ({type(error).__name__})")


def _texts(body: bytes) -> dict[str, str]:
    """What the keys hold, of data and binaryData; raises ValueError or TypeError where this is no ConfigMap."""
    found = json.loads(body)
    if not isinstance(found, dict):
        raise TypeError("no object")
    data, binary = (found.get(field) or {} for field in ("data", "binaryData"))
    for held in (data, binary):
        if not isinstance(held, dict) or not all(isinstance(value, str) for value in held.values()):
            raise TypeError("no texts by key")
    return {key: b64decode(value).decode() for key, value in binary.items()} | data
