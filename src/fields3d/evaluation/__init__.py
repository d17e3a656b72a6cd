"""Evaluators by name: each a factory of (EvaluationInput) -> Evaluation."""

from fields3d.evaluation import reconstruction

EVALUATORS = {
    "geometry": reconstruction.geometry,
}
