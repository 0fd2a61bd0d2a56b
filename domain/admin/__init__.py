"""What the staff of the installation look at and do, told where those concerned can read it."""
