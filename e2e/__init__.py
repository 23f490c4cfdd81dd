"""End-to-end checks: a real control plane with simulated GPU nodes, and the scenarios played on it."""
