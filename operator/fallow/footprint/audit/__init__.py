"""Which GPU energy of a window was of use, and who wasted the rest: pure, from domain.windows to a report."""
