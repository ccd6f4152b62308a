"""What ``python -m reproduction`` offers, a file per command."""
