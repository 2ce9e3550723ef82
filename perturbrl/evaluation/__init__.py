"""Metrics, baselines, planners and statistics: what makes a result worth believing."""
