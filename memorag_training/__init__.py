"""Training of beacon models: data, losses and the trainer; outside the core, on its public names."""
