"""A page builder: product briefs in, scored and refined pages out, every step in SQL."""
