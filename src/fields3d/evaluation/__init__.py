"""Evaluators by name: each a factory of (EvaluationInput) -> Evaluation."""

from fields3d.evaluation.reconstruction import geometry

EVALUATORS = {
    "geometry": geometry,
}
