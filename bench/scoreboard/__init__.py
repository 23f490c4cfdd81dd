"""Every controller on the same traces and seeds: energy per token in time, attainment, distance from the oracle."""
