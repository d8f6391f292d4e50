"""For your own pairs: what goes in is what you have, what comes out is what to do."""
