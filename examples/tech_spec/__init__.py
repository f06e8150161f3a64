"""An agent that turns a product's design into a technical requirements document."""
