"""`python -m recipes` is the `evonas` command; `torchrun -m recipes` starts it on many devices."""

from recipes.runner.cli import main

if __name__ == "__main__":
    main()
