"""`fallow audit`: the look at a cluster (`look`), and its answer for people (`screen`) and programs (`plain`)."""
