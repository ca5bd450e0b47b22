"""What happens to a question before it is searched for: checked, masked, and waiting for its turn."""
