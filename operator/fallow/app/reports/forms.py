"""The forms in which a report is written."""

from enum import StrEnum


class Form(StrEnum):
    MARKDOWN = "markdown"
    HTML = "html"
    CSV = "csv"
    JSON = "json"
