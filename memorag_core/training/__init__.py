"""Training of beacon models: data, losses and the trainer. Stands outside the core and uses its public names."""
