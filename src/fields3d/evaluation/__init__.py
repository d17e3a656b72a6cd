"""Evaluators by name: each a factory of (EvaluationInput) -> Evaluation."""

from fields3d.evaluation import distribution, quality, reconstruction, views

EVALUATORS = {
    "distribution": distribution.distribution,
    "geometry": reconstruction.geometry,
    "quality": quality.quality,
    "views": views.views,
}
