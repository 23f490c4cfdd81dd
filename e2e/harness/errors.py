"""What can go wrong while a cluster is built, started or asked; each message says what to do next."""

from __future__ import annotations


class HarnessError(Exception):
    """The run cannot go on; the text is meant for the person who started it."""


class MissingToolError(HarnessError):
    """A program this machine lacks; the text names what to install."""


class ProgramError(HarnessError):
    """A program that we started ended, failed or did not answer in time; the text ends with its log."""


class CommandError(HarnessError):
    """kubectl or helm said no; the text is what it said."""
