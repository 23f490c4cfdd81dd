"""`fallow simulate`: a fleet, what is declared and a demand in; what each controller would have done with it out."""
