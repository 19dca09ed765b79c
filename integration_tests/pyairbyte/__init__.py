"""PyAirbyte as a client: its smoke test, and what really arrived."""
