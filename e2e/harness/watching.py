"""Follows objects of the API server in the background, through its restarts too, so that a test misses no change."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import yaml

JSON = dict[str, Any]
Key = tuple[str, str]

# A watch that hears nothing for this long is opened anew: the connection may be dead.
SILENCE = 30.0
PAUSE = 0.2


@dataclass(frozen=True, slots=True)
class Change:
    """An object as it was from `at` on (Unix seconds); `body` None: it was gone."""

    at: float
    key: Key
    body: JSON | None


class Watch:
    """`with Watch(kubeconfig, "/api/v1/pods") as pods:`; keys are (namespace, name).

    Between a lost connection and the next list a change may pass unseen; `gaps` counts these times.
    """

    def __init__(self, kubeconfig: Path, path: str) -> None:
        self._path = path
        content = yaml.safe_load(kubeconfig.read_text())
        self._address = urlsplit(content["clusters"][0]["cluster"]["server"])
        authority = base64.b64decode(content["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        self._token = content["users"][0]["user"]["token"]
        self._lock = threading.Lock()
        self._objects: dict[Key, JSON] = {}
        self._changes: list[Change] = []
        self._closed = threading.Event()
        self._listed = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {path}", daemon=True)
        self.gaps = -1

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listed.wait(SILENCE):
            self._closed.set()
            self._hang_up()
            raise TimeoutError(f"{self._path} was not listed within {SILENCE:.0f} s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._hang_up()
        self._thread.join(SILENCE)

    def get(self, namespace: str, name: str) -> JSON | None:
        with self._lock:
            return self._objects.get((namespace, name))

    def all(self, namespace: str) -> dict[str, JSON]:
        """The objects of one namespace by name."""
        with self._lock:
            return {key[1]: body for key, body in self._objects.items() if key[0] == namespace}

    def changes(self, namespace: str, *, since: float = 0.0) -> list[Change]:
        """What happened in one namespace, oldest first; `since` in Unix seconds."""
        with self._lock:
            return [change for change in self._changes if change.key[0] == namespace and change.at >= since]

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._watch_from(self._list())
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                # restarting, or the version is too old: list again
                self._closed.wait(PAUSE)

    def _list(self) -> str:
        with self._asked(self._path) as lines:
            answer = json.loads(lines.read())
        found = {key_of(item): item for item in answer["items"]}
        with self._lock:
            self.gaps += 1
            for key in [key for key in self._objects if key not in found]:
                self._note(key, None)
            for key, body in found.items():
                if self._objects.get(key) != body:
                    self._note(key, body)
        self._listed.set()
        return str(answer["metadata"]["resourceVersion"])

    def _watch_from(self, version: str) -> None:
        with self._asked(f"{self._path}?watch=1&allowWatchBookmarks=true&resourceVersion={version}") as lines:
            while line := lines.readline():
                event = json.loads(line)
                body = event["object"]
                if event["type"] == "ERROR":
                    return
                if event["type"] != "BOOKMARK":
                    with self._lock:
                        self._note(key_of(body), None if event["type"] == "DELETED" else body)

    @contextmanager
    def _asked(self, path: str) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection(
            str(self._address.hostname), self._address.port, timeout=SILENCE, context=self._context
        )
        with closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Bearer {self._token}"})
            self._socket = connection.sock
            with connection.getresponse() as answer:
                if answer.status != http.HTTPStatus.OK:
                    raise ValueError(f"{path}: HTTP {answer.status}")
                yield answer

    def _hang_up(self) -> None:
        """Ends a read that waits for the next event."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _note(self, key: Key, body: JSON | None) -> None:
        self._changes.append(Change(time.time(), key, body))
        if body is None:
            self._objects.pop(key, None)
        else:
            self._objects[key] = body


def key_of(body: JSON) -> Key:
    metadata = body["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


class Levels:
    """The number of something in one namespace over time, such as ready pods: each change with its moment."""

    def __init__(self, watch: Watch, counts: Callable[[dict[str, JSON]], int]) -> None:
        self._watch = watch
        self._counts = counts

    def over_time(self, namespace: str, *, since: float = 0.0) -> list[int]:
        """Counts without repetition, the one at `since` first."""
        objects: dict[str, JSON] = {}
        levels: list[int] = []
        for change in self._watch.changes(namespace):
            if change.at >= since and not levels:
                levels.append(self._counts(objects))
            name = change.key[1]
            if change.body is None:
                objects.pop(name, None)
            else:
                objects[name] = change.body
            if levels and self._counts(objects) != levels[-1]:
                levels.append(self._counts(objects))
        return levels or [self._counts(objects)]
