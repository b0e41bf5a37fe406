"""`python -m mesa_ws` is the command `mesa`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="mesa")
