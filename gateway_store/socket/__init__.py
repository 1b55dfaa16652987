"""What is said on the gateway's socket."""
