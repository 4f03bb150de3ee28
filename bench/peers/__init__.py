"""Other engines with the same job: measured beside ours in one session, or recorded earlier."""
