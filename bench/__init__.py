"""Scoreboards and timings; nothing here is asserted in tests."""
