"""Erasing people: which keys are destroyed, and the certificate that says so."""
