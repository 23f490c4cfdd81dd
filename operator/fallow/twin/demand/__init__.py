"""Where a simulated demand comes from: generated weeks, recorded traces, windows that somebody measured, and sums.

All of them are `fallow.twin.simulation.demand.Demand`: blocks of seconds, the same whenever they are asked for.
"""
