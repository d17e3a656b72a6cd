"""The commands, in the order of a run's life: each is a module here with HELP, add_arguments and run."""

COMMANDS = ("plan", "launch", "train", "encode", "evaluate", "compare", "study", "sample", "extract", "render", "view", "inspect",
            "prepare", "metrics", "doctor", "completion")

# Those that take --config.a.b=VALUE; they find the pairs (path, text) in `args.overrides`.
WITH_OVERRIDES = ("plan", "launch", "train", "evaluate")
