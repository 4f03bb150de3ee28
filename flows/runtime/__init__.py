"""What makes a process of a flow: settings, launch, telemetry, and where its files are."""
