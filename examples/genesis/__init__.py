"""Genesis: novels that are written in stages, each of them in one or more sessions."""
