"""One module per family of rows; every module-level `Row` is found by walking this package."""
