"""What turns chapters into pages: parameters, runs, pages, sweeps, the registry of statements."""
