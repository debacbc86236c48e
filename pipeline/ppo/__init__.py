"""L3: proximal policy optimisation for any policy behind the seam; blind to architecture, transformers and MLflow."""

from pipeline.ppo.train import train

__all__ = ["train"]
