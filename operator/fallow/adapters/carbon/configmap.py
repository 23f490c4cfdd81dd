"""A carbon intensity that somebody else keeps up to date in a ConfigMap."""

from __future__ import annotations

import aiohttp
from kubernetes.aio.client import ApiClient, CoreV1Api
from kubernetes.aio.client.exceptions import ApiException, OpenApiException

from fallow.adapters.carbon.parameters import grams, text
from fallow.domain.figures import Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant
from fallow.domain.zones import INTENSITY_BOUNDS, Intensity, IntensitySource

_HINTS = {
    403: "allow the operator's ServiceAccount to get it",
    404: "create it, or correct namespace and name",
}


class ConfigMapCarbon:
    """Implements ports.CarbonSource for `namespace`, `name` and `key`.

    A ConfigMap does not say when it was confirmed last, so its value counts as of now.
    """

    def __init__(self, api: ApiClient, *, timeout: float = 5.0) -> None:
        self._api = CoreV1Api(api)
        self._timeout = timeout

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
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
        best = grams(data[key], f"{where}, key {key},")
        if isinstance(best, Missing):
            return best
        return Intensity(Figure.around(GramsPerKWh(best), INTENSITY_BOUNDS), at=now, source=where)

    async def _data(self, namespace: str, name: str, where: str) -> dict[str, str] | Missing:
        try:
            found = await self._api.read_namespaced_config_map(name, namespace, _request_timeout=self._timeout)
        except ApiException as error:
            hint = _HINTS.get(error.status, str(error.reason or ""))
            reason = Reason.NO_INTENSITY if error.status in _HINTS else Reason.SOURCE_UNREACHABLE
            return Missing(reason, f"{where}: {error.status}; {hint}")
        except TimeoutError:
            return Missing(Reason.SOURCE_UNREACHABLE, f"{where}: no answer within {self._timeout:g} s")
        except aiohttp.ClientError as error:
            return Missing(Reason.SOURCE_UNREACHABLE, f"{where}: {type(error).__name__}")
        except (OpenApiException, ValueError, TypeError) as error:
            return Missing(Reason.BAD_ANSWER, f"{where}: not an API server's answer ({type(error).__name__})")
        return dict(found.data or {})
