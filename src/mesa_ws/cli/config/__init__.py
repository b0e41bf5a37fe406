"""What `mesa serve` can be told, and where it is told: flags, environment, a TOML file."""
