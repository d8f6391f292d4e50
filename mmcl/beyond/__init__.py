"""Ours, beyond the paper: detection with error control, matching rules, filtering, features from unpaired rows."""
