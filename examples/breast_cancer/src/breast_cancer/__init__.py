"""Tells benign from malignant tumours."""
