"""What the product promises in seconds, measured on the real local stack: `python -m tests.bench`."""
