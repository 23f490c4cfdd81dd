"""A whole Kubernetes without containers: real control plane, KWOK nodes and a real Prometheus.

Used alike by the demo, the integration tests and the end-to-end tests. Build the programs, enter a
namespace of the run's own, start a `Cluster`; when the run ends, however it ends, all of it is gone.
"""
