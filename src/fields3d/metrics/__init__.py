"""Figures of clouds, surfaces, images and sets of them as plain functions of arrays; `evaluation` applies them to runs."""
