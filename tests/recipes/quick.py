"""`python tests/recipes/quick.py ...` is `evonas ...`, but files are exported by torch's older exporter: a tenth of the time."""

from unittest import mock

from command import quick_export

from recipes.runner.cli import main

if __name__ == "__main__":
    with mock.patch("predictors.devices.runtime.export", quick_export):
        main()
