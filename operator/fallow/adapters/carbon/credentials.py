"""Keys and logins of providers: files that the cluster mounts from a Secret, read anew for each request.

Nothing of them is kept, and `SecretStr` shows itself as stars wherever it is printed.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason

MAX_BYTES = 8192
_WHERE = "the Secret that the chart's credentials.existingSecret names"


class Credentials:
    """`directory` holds one file per credential; None where the operator was given none."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def read(self, name: str) -> SecretStr | Missing:
        """The content of one file without the white space around it."""
        if self._directory is None:
            return _missing(f"no credentials are mounted: put {name} into {_WHERE} (setting FALLOW_CREDENTIALS_DIR)")
        if not name or Path(name).name != name or name == "..":
            return _missing(f"{name!r} is no key of a Secret")
        try:
            with (self._directory / name).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return _missing(f"no file {name} in {self._directory}: put the key {name} into {_WHERE}")
        except OSError as error:
            return _missing(f"{self._directory / name} cannot be read: {error.strerror}")
        try:
            secret = content.decode().strip()
        except UnicodeDecodeError:
            secret = ""
        if not secret or len(content) > MAX_BYTES or not secret.isprintable():
            return _missing(f"{self._directory / name} must hold one line of text and nothing else")
        return SecretStr(secret)


def _missing(words: str) -> Missing:
    return Missing(Reason.NO_CREDENTIAL, words)
