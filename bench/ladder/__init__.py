"""The rungs of the idle ladder on services that are silent for most of the time, against what could be saved."""
