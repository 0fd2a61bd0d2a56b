"""Every kind of effect, one module each; found by walking."""
