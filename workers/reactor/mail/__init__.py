"""Mail: what a letter says, how it is written, how it leaves."""
