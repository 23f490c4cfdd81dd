"""Energy, power, latency and throughput of a decoding engine in steady state, calibrated on measured rows.

`physics` says what hardware and model make of a batch, `curves` what was measured beyond that, `predict` answers.
"""
