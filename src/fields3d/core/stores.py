"""Which paths are in an object store: asked before anything that reaches one is imported."""

SCHEMES = ("gs://", "s3://")


def is_remote(text: str) -> bool:
  """Whether a path is in an object store.

  >>> is_remote("gs://bucket/run"), is_remote("runs/gs")
  (True, False)
  """
  return text.startswith(SCHEMES)
