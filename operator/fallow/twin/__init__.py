"""The simulated GPU fleet: physics, traffic, life cycle, and the endpoints of vLLM and dcgm-exporter."""
