"""`python -m oce2stardist` is the same program as `oce2stardist`."""

from oce2stardist.cli.main import main

main()
