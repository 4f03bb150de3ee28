"""What `shopstream doctor` looks at."""
