"""Proximal policy optimisation for any policy behind the seam; blind to architecture, transformers and MLflow."""

from pipeline.methods.ppo.train import train

__all__ = ["train"]
