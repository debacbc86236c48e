"""The machinery of parameter files: sections, loading, rules between keys."""
