"""How the project is run: the Python it runs in, the image, and real services for a checkout."""
