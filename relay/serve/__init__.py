"""What the server of any side needs, and nothing of what a side's requests mean."""
