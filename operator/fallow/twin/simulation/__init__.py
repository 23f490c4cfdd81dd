"""The twin's fast clock: every engine of a fleet in columns, a second at a time, as fast as the machine allows.

`table` is the law of an engine as arrays, `steady` what follows from it at a constant load, `demand` what arrives,
`sight` what a controller sees of it.
"""
