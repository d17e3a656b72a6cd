"""Evaluators by name: each a factory of (EvaluationInput) -> Evaluation."""

from fields3d.evaluation import (
    completion,
    distribution,
    efficiency,
    generated_views,
    novel_views,
    quality,
    reconstruction,
    rendered,
    views,
)

EVALUATORS = {
    "completion": completion.completion,
    "distribution": distribution.distribution,
    "efficiency": efficiency.efficiency,
    "generated_views": generated_views.generated_views,
    "geometry": reconstruction.geometry,
    "novel_views": novel_views.novel_views,
    "quality": quality.quality,
    "rendered": rendered.rendered,
    "views": views.views,
}
