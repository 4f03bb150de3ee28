"""What single visitors did: read back from the clean topic, split into sessions, put in words."""
