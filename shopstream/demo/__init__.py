"""The whole way once: services, flows, a generator, what a person sees of it, and the proof."""
