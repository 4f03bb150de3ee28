"""How the project is run: real services for one checkout, and the Python that everything runs in."""
