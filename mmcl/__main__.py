"""``python -m mmcl`` is ``python -m mmcl.reports``."""

import runpy

runpy.run_module("mmcl.reports", run_name="__main__", alter_sys=True)
