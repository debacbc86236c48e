"""MLflow: a projection of what stages leave on disk."""
