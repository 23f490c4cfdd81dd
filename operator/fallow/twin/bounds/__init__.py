"""What no controller can beat on the same demand: a physical floor and two oracles, in joules of held GPUs."""
