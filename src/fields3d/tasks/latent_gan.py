"""A generator of another task's latents against a critic of them: 3D-GAN of voxels, r-GAN of points, l-GAN of codes."""

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from fields3d.core.config import Count, Fraction, From, NonNegative, Positive
from fields3d.core.errors import UsageFault
from fields3d.core.task import Task
from fields3d.losses.adversarial import Game, Penalty, consistency, generator_loss, gradient_penalty, watched
from fields3d.losses.collapse import collapse
from fields3d.networks import CRITICS, GENERATORS
from fields3d.networks.adversary import Critic, Generator
from fields3d.tasks.bases import BASES, init_base, latents_of


def latent_gan(base: Annotated[Task, From(BASES)], generator: Annotated[Generator, From(GENERATORS)],
               critic: Annotated[Critic, From(CRITICS)], code_dim: Count = 128, noise: Literal["normal", "uniform"] = "normal",
               deviation: Positive = 0.2, game: Game = "wgan", penalty: Penalty = "wgan_gp", penalty_weight: NonNegative = 10.0,
               penalty_every: Count = 1, consistency_weight: NonNegative = 0.0, consistency_noise: Positive = 0.02,
               critic_steps: Count = 1, gate: Fraction = 1.0, watch_every: Count = 50) -> Task:
  """Learns to make latents as `base` gives them for the shapes of each batch, or as the batch brings them (`latents_of`).

  Groups, in this order: those of `base`, frozen, which `init_from` brings; "critic"; "generator". All that can be asked of
  `base` can be asked of this; "sample" makes latents from new codes. Latents are not standardised.

  Args:
    code_dim: of the noise: "normal" of `deviation`, or "uniform" in [0, 1].
    game, penalty, penalty_weight, penalty_every: see `losses.adversarial`.
    consistency_weight: of scores not changing under normal noise of deviation `consistency_noise` on the data.
    critic_steps: steps of which the generator takes the last only.
    gate: the critic rests while it is right on this share of the batch or more, real and made together (3D-GAN: 0.8); 1 never.
    watch_every: steps from one look at the spread and the coverage of a fixed batch of codes to the next (`losses.collapse`).

  Raises:
    UsageFault: a base without latents, or latents of another shape than the generator's.

  Source: Wu et al. 2016 (3D-GAN); Achlioptas et al. 2018 (r-GAN, l-GAN); Gulrajani et al. 2017 (critic_steps).
  """
  if "latents" not in base.predict:
    raise UsageFault("--config.task.base", "its shapes have no latents", 'use base.name="point_cloud"')
  made = _LatentGan(base, generator, critic, code_dim, noise, deviation, game, penalty, penalty_weight, penalty_every,
                    consistency_weight, consistency_noise, critic_steps, gate, watch_every)
  return Task(made.init, {"critic": made.critic_loss, "generator": made.generator_loss}, base.predict | {"sample": made.sample})


@dataclasses.dataclass(frozen=True)
class _LatentGan:
  """The settings of `latent_gan`, and the task's functions as methods."""
  base: Task
  maker: Generator
  critic: Critic
  code_dim: int
  noise: str
  deviation: float
  game: str
  penalty: str
  penalty_weight: float
  penalty_every: int
  consistency_weight: float
  consistency_noise: float
  critic_steps: int
  gate: float
  watch_every: int

  def init(self, key):
    base_key, critic_key, generator_key = jax.random.split(key, 3)
    params, extra = init_base(self.base, base_key)
    found = jax.eval_shape(lambda: self.base.predict["sample"](params, extra, base_key, 1)).shape[1:]
    if found != self.maker.shape:
      raise UsageFault("--config.task.generator", f"makes {self.maker.shape}, the base's latents are {found}",
                       "give them the same size")
    own = {"critic": self.critic.init(critic_key, found), "generator": self.maker.init(generator_key, self.code_dim)}
    return {**params, **own}, extra

  def _made(self, params, key, num: int):
    shape = (num, self.code_dim)
    z = jax.random.uniform(key, shape) if self.noise == "uniform" else self.deviation * jax.random.normal(key, shape)
    return self.maker.apply(params["generator"], z)

  def critic_loss(self, params, extra, batch, key, step):
    latent_key, fake_key, penalty_key, noise_key = jax.random.split(key, 4)
    real = latents_of(self.base, params, extra, batch, latent_key)
    fake = jax.lax.stop_gradient(self._made(params, fake_key, len(real)))
    score = lambda x: self.critic.apply(params["critic"], x)
    on_real, on_fake = score(real), score(fake)
    scalars = watched(on_real, on_fake, self.game)
    total = scalars["game"]
    if self.penalty != "none" and self.penalty_weight:
      scalars["penalty"] = gradient_penalty(self.penalty, score, real, fake, penalty_key, step, self.penalty_every)
      total += self.penalty_weight * scalars["penalty"]
    if self.consistency_weight:
      changed = lambda x: x + self.consistency_noise * jax.random.normal(noise_key, x.shape)
      scalars["consistency"] = consistency(score, real, on_real, changed) + consistency(score, fake, on_fake, changed)
      total += self.consistency_weight * scalars["consistency"]
    if self.gate < 1:
      right = 0.5 * (scalars["right_on_real"] + scalars["right_on_fake"])
      scalars["update"] = self.gate - right  # above 0 where it is right too rarely, of a whole batch too if that comes in parts
    return total, scalars

  def generator_loss(self, params, extra, batch, key, step):
    latent_key, fake_key = jax.random.split(key)
    real = latents_of(self.base, params, extra, batch, latent_key)
    game = generator_loss(self.critic.apply(params["critic"], self._made(params, fake_key, len(real))), self.game)
    scalars = {"game": game, **self._watched(params, real, step)}
    if self.critic_steps > 1:
      scalars["update"] = (step % self.critic_steps == self.critic_steps - 1).astype(jnp.float32)
    return game, scalars

  def _watched(self, params, real, step) -> dict[str, jax.Array]:
    """Of a fixed batch of codes, at some steps; NaN, which no mean counts, between them."""
    look = lambda: collapse(self._made(params, jax.random.key(0), len(real)), real)
    nothing = lambda: jax.tree.map(lambda a: jnp.full(a.shape, jnp.nan, a.dtype), jax.eval_shape(look))
    params = jax.lax.stop_gradient(params)
    return jax.lax.cond(step % self.watch_every == 0, look, nothing)

  def sample(self, params, extra, key, num):
    del extra
    return self._made(params, key, num)
