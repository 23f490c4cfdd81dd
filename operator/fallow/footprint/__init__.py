"""Energy, attribution, carbon, water, embodied impact: one formula, one function, one source (docs/methodology.md)."""
