"""A stretch in which some cache may fill up: who gets in, who stands aside, and what is computed again.

As in vLLM V1 a request is let in when its prompt fits, and when answers outgrow the cache the youngest give theirs
back. Requests hold their prompts and what they have generated, in the mean of those who decode in a column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fallow.twin.simulation.demand import Array

TINY = 1e-12
# The most of those who decode that stand aside: somebody always works.
MOST_ASIDE = 0.99
# How old those who are left may get, in means of a steady flow: enough for a second in which nobody comes. A choice.
OLDEST = 10.0


@dataclass(frozen=True, slots=True)
class Room:
    """By column. `limit`: tokens that fit into the caches of its `replicas`. `prompt`: mean tokens of those who come,
    `uneven`: one plus their squared variation. `leaving`: tokens that those who end have generated, in means of all who
    decode.
    """

    replicas: Array
    limit: Array
    prompt: Array
    uneven: Array
    leaving: Array


@dataclass(frozen=True, slots=True)
class Pressed:
    """By column, for one second: requests that find room (`entering`), the share `working` of those who decode, and
    requests whose prompts are computed `again`.
    """

    entering: Array
    working: Array
    again: Array


class Crowd:
    """Follows `prompts` and `ages`: mean tokens of the prompts and, so far, of the answers of those who decode."""

    def __init__(self, room: Room, prompts: Array, ages: Array) -> None:
        self._room = room
        self.prompts, self.ages = prompts.copy(), ages.copy()
        # the first of the queue waits until its prompt fits: long ones wait longer, and find half of one free
        blocked = room.replicas * room.prompt * room.uneven / 2.0
        self._open = np.maximum(room.limit - blocked, room.limit / 2.0)

    def press(self, decoding: Array, prefilling: Array, ended: Array, made: Array, waiting: Array) -> Pressed:
        """What a second brings by the one before, in which so many requests `ended` and tokens were `made`.

        In a full cache with requests that wait each place is taken at once: every token that is made pushes one out
        that has to be computed again.
        """
        room = self._room
        held = decoding * (self.prompts + self.ages) + prefilling * room.prompt
        beyond = np.maximum(held - room.limit, 0.0)
        # where ages are even, the youngest share x of the requests has x times the mean age
        older = np.sqrt(room.prompt**2 + 4.0 * beyond * self.ages / (decoding + TINY))
        aside = np.minimum(2.0 * beyond / (room.prompt + older), MOST_ASIDE * decoding)
        free = self._open - held + ended * (self.prompts + room.leaving * self.ages) - made
        full = held > self._open - room.replicas * room.prompt
        someone = -np.expm1(-(waiting + aside) / np.maximum(room.replicas, 1.0))
        return Pressed(
            entering=np.maximum(free, 0.0) / room.prompt,
            working=1.0 - aside / (decoding + TINY),
            again=np.where(full, made * someone / room.prompt, 0.0),
        )

    def follow(self, there: Array, mixing: Array, ended: Array, output: Array) -> None:
        """A second in which a share `mixing` of those who were `there` began to decode; mean `output` of all."""
        self.prompts += mixing * (self._room.prompt - self.prompts)
        ageing, becoming = ageing_of(mixing, ended / (there + TINY), output, self._room.leaving)
        self.ages += ageing * (becoming - self.ages)


def ageing_of(mixing: Array, gone: Array, output: Array, leaving: Array) -> tuple[Array, Array]:
    """By which share in a second the mean tokens so far come nearer to which, of answers with `output` tokens in all.

    All make their tokens; a share `mixing` begins and has none, and the share `gone` had `leaving` times the mean. With
    as many that come as go that is output / leaving; where nobody comes, the rest is as old as OLDEST times that.
    """
    share = np.maximum(mixing + (leaving - 1.0) * gone, leaving * gone / OLDEST)
    return np.minimum(share, 1.0), output * gone / (share + TINY)
