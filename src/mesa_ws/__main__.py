"""Run the command `mesa` with `python -m mesa_ws`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="mesa")
