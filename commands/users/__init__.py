"""Register users, sign them in, change what they may change themselves."""
