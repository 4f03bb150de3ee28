"""RetentionPolicy the flows running."""
