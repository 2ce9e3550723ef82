"""Boolean networks: rules, attractors, interventions and their differential equations; no environment."""
