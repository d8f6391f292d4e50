"""How a command ends: an exit status, and one sentence where something is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from nbclient.exceptions import DeadKernelError

from mmcl.reports.formulas import RenderError
from mmcl.reports.reading import DamagedError, UsageError

DAMAGED = 3  # by which the Makefile knows that something that was made has to be made again


def ending(command: Callable[[], int]) -> int:
    """Run a command and tell what stops it.

    Returns:
        What the command returns; 1 if something went wrong, 2 for a mistake in the call, 3 for a file that is to be
        made anew, 130 for an interrupt.
    """
    status, told = _ending(command)
    if told:
        print(f"mmcl: {told}", file=sys.stderr)
    return status


def _ending(command: Callable[[], int]) -> tuple[int, str]:
    try:
        status = command()
        sys.stdout.flush()
        return status, ""
    except UsageError as error:
        return DAMAGED if isinstance(error, DamagedError) else 2, str(error)
    except (RenderError, ChildProcessError) as error:
        return 1, str(error)
    except DeadKernelError:
        return 1, "the notebook's process died, perhaps for memory; try smaller sizes"
    except BrokenPipeError:  # whoever read what is printed has gone, as `head` does
        sys.stdout = open(os.devnull, "w")  # nothing is left to be flushed at the end
        return 1, ""
    except OSError as error:
        return 1, (error.strerror or str(error)) + (f": {error.filename}" if error.filename else "")
    except KeyboardInterrupt:
        return 130, "interrupted"
