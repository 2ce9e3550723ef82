"""The two-stage optimiser and what it needs: policies, rollouts, trust region, PPO; it knows no biology."""
