"""What turns chapters into pages: parameters, runs, pages, sweeps, the registry of statements."""

import sys

# A grammar of addresses that takes seconds to build, at every start: jsonschema would check formats by it, and a
# notebook has none of them.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
