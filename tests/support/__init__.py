"""What tests share: services, stacks, events by hand, a plain oracle, a second opinion."""
