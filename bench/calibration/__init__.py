"""How well the twin's engine model meets the measured rows, and how its coefficients are fitted to them."""
