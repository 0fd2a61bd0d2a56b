"""What an organization has agreed with vendors about prices."""
