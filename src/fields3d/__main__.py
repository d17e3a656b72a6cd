"""python -m fields3d: the same as the command fields3d."""

import sys

from fields3d.commands.main import main

if __name__ == "__main__":
  sys.exit(main())
