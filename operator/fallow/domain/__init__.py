"""Words and laws of green serving: no I/O, no frameworks."""
