"""Which events cause which mail, one module per slice; found by walking."""
