"""Evaluators by name: each a factory of (EvaluationInput) -> Evaluation."""

from fields3d.evaluation import quality, reconstruction, views

EVALUATORS = {
    "geometry": reconstruction.geometry,
    "quality": quality.quality,
    "views": views.views,
}
