"""The whole story live in a terminal: real Kubernetes, real Prometheus, real Fallow; GPUs and requests simulated."""
