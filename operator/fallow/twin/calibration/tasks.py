"""Kinds of work that were measured: they differ in prompt, answer and whatever else happens beside decoding."""

from __future__ import annotations

from enum import StrEnum


class Task(StrEnum):
    """As measured by ML.ENERGY v3; in the order of the fitted prompt lengths."""

    CHAT = "chat"
    REASONING = "reasoning"
    IMAGE = "image"
    VIDEO = "video"
    COMPLETION = "completion"

    @property
    def is_text(self) -> bool:
        return self in {Task.CHAT, Task.REASONING}


ORDER = tuple(Task)

SOURCE_NAMES = {
    "lm-arena-chat": Task.CHAT,
    "gpqa": Task.REASONING,
    "image-chat": Task.IMAGE,
    "video-chat": Task.VIDEO,
    "sourcegraph-fim": Task.COMPLETION,
}

# Mean tokens of an answer: medians over the models measured.
USUAL_OUTPUT = {
    Task.CHAT: 650.0,
    Task.REASONING: 7000.0,
    Task.IMAGE: 920.0,
    Task.VIDEO: 380.0,
    Task.COMPLETION: 250.0,
}


class Precision(StrEnum):
    """Of the weights; the KV cache is 16 bit throughout."""

    BF16 = "BF16"
    FP8 = "FP8"
    MXFP4 = "MXFP4"
    INT8 = "INT8"
    INT4 = "INT4"

    @property
    def measured(self) -> bool:
        return self in {Precision.BF16, Precision.FP8, Precision.MXFP4}


# B per parameter, with scales and the layers that stay in 16 bit; INT8 and INT4 are assumed like FP8 and MXFP4.
WEIGHT_BYTES = {
    Precision.BF16: 2.0,
    Precision.FP8: 1.03,
    Precision.MXFP4: 0.55,
    Precision.INT8: 1.03,
    Precision.INT4: 0.55,
}

# MXFP4 is for the experts of a mixture, the rest stays in 16 bit (gpt-oss): 4 bits, and 8 for each 32 of them (OCP MX).
MXFP4_EXPERT_BYTES = (4 + 8 / 32) / 8


def weight_bytes(precision: Precision, *, mixture: bool) -> tuple[float, float]:
    """B per parameter that every token uses, and of routed experts."""
    if mixture and precision is Precision.MXFP4:
        return WEIGHT_BYTES[Precision.BF16], MXFP4_EXPERT_BYTES
    return WEIGHT_BYTES[precision], WEIGHT_BYTES[precision]
