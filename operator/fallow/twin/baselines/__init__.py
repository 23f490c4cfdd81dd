"""Other ways to choose replicas, each from its published algorithm with its defaults, for a fair comparison."""
