"""Evaluators by name: each a factory of (EvaluationInput) -> Evaluation."""

from fields3d.evaluation import distribution, efficiency, novel_views, quality, reconstruction, rendered, views

EVALUATORS = {
    "distribution": distribution.distribution,
    "efficiency": efficiency.efficiency,
    "geometry": reconstruction.geometry,
    "novel_views": novel_views.novel_views,
    "quality": quality.quality,
    "rendered": rendered.rendered,
    "views": views.views,
}
