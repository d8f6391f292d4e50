"""``python -m mmcl`` is ``python -m mmcl.reports``, and an interrupt while that is loaded is told in one line, too."""

import sys


def main() -> int:
    """Run one command, see `mmcl.reports.__main__.main`."""
    try:
        from mmcl.reports.__main__ import main as run

        return run()
    except KeyboardInterrupt:
        print("mmcl: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
