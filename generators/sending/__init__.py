"""When and how records leave."""
