"""Evaluators by name: each a factory of (EvaluationInput) -> Evaluation."""

from fields3d.evaluation import reconstruction, views

EVALUATORS = {
    "geometry": reconstruction.geometry,
    "views": views.views,
}
