"""Accuracy foretold without training: regressors of populations, and what they read."""
