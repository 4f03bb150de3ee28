"""What defines and keeps the tables: migrations, roles, roll-ups, retention. No flow imports it."""
