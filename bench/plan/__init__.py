"""What it costs Fallow to decide for many services."""
