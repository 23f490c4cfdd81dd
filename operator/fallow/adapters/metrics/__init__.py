"""Metric sources: Prometheus at scale, direct scrape without one; both translate the same vLLM and DCGM names."""
