"""What a perturbation does to the mean and the spread of expression."""
