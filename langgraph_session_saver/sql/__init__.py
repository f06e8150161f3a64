"""How SQL is run: engines, connections, transactions, retries and dialects. Knows no table."""
