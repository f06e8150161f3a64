"""Graph state to typed rows: the rules, and the statements that store the rows."""
