"""How long requests are: by mean and variation, or as measured on Azure's requests of 2023."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fallow.twin.simulation.demand import Array


@dataclass(frozen=True, slots=True)
class Lengths:
    """Mean tokens and coefficients of variation of single requests; `cached`: share of prompts found in cache."""

    prompt: float
    output: float
    prompt_cv: float = 1.0
    output_cv: float = 1.0
    cached: float = 0.0


# Means and variations of AzureLLMInferenceTrace_code_2023 (8,819 requests) and of the first 11,619 requests of
# AzureLLMInferenceTrace_conv_2023 (Azure/AzurePublicDataset, CC-BY-4.0), computed from the files.
AZURE_CODE = Lengths(prompt=2048.0, output=27.9, prompt_cv=0.96, output_cv=2.15)
AZURE_CONVERSATION = Lengths(prompt=1263.0, output=206.4, prompt_cv=0.97, output_cv=0.80)


def means(generator: np.random.Generator, counts: Array, mean: float, cv: float) -> Array:
    """Mean length of as many requests as each count says: gamma, with the mean and variance that a sum of them has.

    At least one token; where the count is zero the mean of one.
    """
    if cv <= 0:
        return np.full(counts.shape, max(mean, 1.0))
    shape = np.maximum(counts, 1.0) / cv**2
    return np.asarray(np.maximum(generator.standard_gamma(shape) / shape * mean, 1.0))
