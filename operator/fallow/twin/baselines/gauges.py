"""How the twin's gauges, which are means, are read where real ones count requests."""

# Less than half a request is none.
SOMEBODY = 0.5
# What rounding may leave above a whole number of replicas; Kubernetes counts in thousandths.
ROUNDING = 1e-9
