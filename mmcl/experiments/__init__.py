"""Section 5 of the paper as published, and the data it runs on."""
