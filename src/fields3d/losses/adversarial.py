"""What every adversarial task may choose from: games, penalties on the critic's gradient, consistency.

A critic gives one number for each picture, high for real ones, or k of them, (b, k), from critics that share their work; here
it comes as a function (pictures (b, ...)) -> (b,) with its parameters bound. Every loss is a mean over the batch, and a sum
over critics; `consistency` is a mean over both.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Game = Literal["non_saturating", "wgan", "hinge"]
Penalty = Literal["r1", "wgan_gp", "none"]
Scores = Float[Array, " b"] | Float[Array, "b k"]


def critic_loss(real: Scores, fake: Scores, game: Game = "non_saturating") -> Float[Array, ""]:
  """What the critic descends.

  non_saturating: softplus(fake) + softplus(-real), the log-likelihood of a classifier. wgan: fake - real. hinge:
  max(0, 1 + fake) + max(0, 1 - real).

  Source: Goodfellow et al. 2014; Arjovsky et al. 2017, equation 2; Lim & Ye 2017, "Geometric GAN", equation 13.

  >>> [round(float(critic_loss(jnp.array([2.0]), jnp.array([-3.0]), g)), 3) for g in ("non_saturating", "wgan", "hinge")]
  [0.176, -5.0, 0.0]
  """
  if game == "non_saturating":
    return _total(jax.nn.softplus(fake)) + _total(jax.nn.softplus(-real))
  if game == "wgan":
    return _total(fake) - _total(real)
  return _total(jax.nn.relu(1 + fake)) + _total(jax.nn.relu(1 - real))


def watched(real: Scores, fake: Scores, game: Game) -> dict[str, jax.Array]:
  """What a log says of a game: its "game" (the critic's loss), the "score_gap", and the shares "right_on_real" and "right_on_fake".

  A score is right on its side of 0; of a Wasserstein critic, whose scores have no zero, of the middle between both means.

  >>> found = watched(jnp.array([6.0, 5.0]), jnp.array([4.0, 3.0]), "wgan")
  >>> {name: float(value) for name, value in found.items()}
  {'game': -2.0, 'score_gap': 2.0, 'right_on_real': 1.0, 'right_on_fake': 1.0}
  """
  mean = lambda scores: jnp.mean(scores, axis=0, keepdims=True)
  middle = 0.5 * (mean(real) + mean(fake)) if game == "wgan" else 0.0
  return {"game": critic_loss(real, fake, game), "score_gap": jnp.mean(real) - jnp.mean(fake),
          "right_on_real": jnp.mean(real > middle), "right_on_fake": jnp.mean(fake < middle)}


def generator_loss(fake: Scores, game: Game = "non_saturating") -> Float[Array, ""]:
  """What the generator descends: softplus(-fake), else -fake.

  Source: Goodfellow et al. 2014, section 3, for the first.

  >>> [round(float(generator_loss(jnp.array([2.0]), g)), 3) for g in ("non_saturating", "wgan", "hinge")]
  [0.127, -2.0, -2.0]
  """
  return _total(jax.nn.softplus(-fake)) if game == "non_saturating" else -_total(fake)


def _total(terms: Scores) -> Float[Array, ""]:
  return jnp.sum(jnp.mean(terms, axis=0))


def r1(critic: Callable, real: Float[Array, "b ..."]) -> Float[Array, ""]:
  """Half the mean squared length of the critic's gradient at real pictures.

  Exact where no picture's score depends on another picture; with deviations of the minibatch it is the gradient of the sum.

  Source: Mescheder et al. 2018, "Which training methods for GANs do actually converge?", equation 9, without gamma.

  >>> float(r1(lambda x: 3 * x[:, 0] + 4 * x[:, 1], jnp.zeros((5, 2))))
  12.5
  """
  gradient = jax.grad(lambda x: jnp.sum(critic(x)))(real)
  return 0.5 * jnp.sum(gradient**2) / len(real)


def wgan_gp(critic: Callable, real: Float[Array, "b ..."], fake: Float[Array, "b ..."], key: jax.Array) -> Float[Array, ""]:
  """Mean squared difference from 1 of the length of the critic's gradient, at random places between real and fake.

  Each row's own where no row's score depends on another; with deviations of the minibatch it is the gradient of the sum.

  Source: Gulrajani et al. 2017, "Improved training of Wasserstein GANs", equation 3, without lambda.

  >>> float(wgan_gp(lambda x: 3 * x[:, 0] + 4 * x[:, 1], jnp.zeros((5, 2)), jnp.ones((5, 2)), jax.random.key(0)))
  16.0
  """
  share = jax.random.uniform(key, (len(real), *(1,) * (real.ndim - 1)), real.dtype)
  between = real + share * (fake - real)
  gradient = jax.grad(lambda x: jnp.sum(critic(x)))(between)
  square = jnp.sum(gradient.reshape(len(real), -1)**2, axis=1)
  return jnp.mean((jnp.sqrt(square + 1e-12) - 1) ** 2)


def lazily(penalty: Callable[[], jax.Array], step: jax.Array, every: int) -> Float[Array, ""]:
  """`every` times the penalty at every so many steps, 0 between: the same on average, at a fraction of the cost.

  Source: StyleGAN2 (Karras et al. 2020), section 3.1.

  >>> [float(lazily(lambda: jnp.float32(2.0), jnp.int32(s), 3)) for s in range(4)]
  [6.0, 0.0, 0.0, 6.0]
  """
  if every == 1:
    return penalty()
  return jax.lax.cond(step % every == 0, lambda: every * penalty(), lambda: jnp.zeros((), jnp.float32))


def gradient_penalty(penalty: Penalty, critic: Callable, real: Float[Array, "b ..."], fake: Float[Array, "b ..."], key: jax.Array,
                     step: jax.Array, every: int) -> Float[Array, ""]:
  """The penalty of that name, `lazily`.

  >>> steep, ones = lambda x: 3 * x[:, 0] + 4 * x[:, 1], jnp.ones((5, 2))
  >>> [float(gradient_penalty(name, steep, 0 * ones, ones, jax.random.key(0), jnp.int32(0), 2)) for name in ("r1", "wgan_gp")]
  [25.0, 32.0]
  """
  return lazily((lambda: r1(critic, real)) if penalty == "r1" else lambda: wgan_gp(critic, real, fake, key), step, every)


def consistency(critic: Callable, pictures: Float[Array, "b ..."], scores: Scores, changed: Callable) -> Float[Array, ""]:
  """Mean squared difference of scores of pictures and of the same pictures changed in a way that should not matter.

  Args:
    scores: the critic's, of `pictures`. changed: pictures -> pictures.

  Source: Zhang et al. 2020, "Consistency regularization for GANs", equation 4; of made pictures too: Zhao et al. 2021.

  >>> x = jnp.array([[1.0, 3.0]])
  >>> float(consistency(lambda x: x[:, 0], x, x[:, 0], lambda x: x[:, ::-1]))
  4.0
  """
  return jnp.mean((critic(changed(pictures)) - scores) ** 2)


def shifted(key: jax.Array, pictures: Float[Array, "b h w c"], most: int) -> Float[Array, "b h w c"]:
  """Each picture moved by up to `most` pixels either way along both axes, its edges repeated.

  >>> shifted(jax.random.key(0), jnp.ones((2, 4, 4, 1)), 1).shape
  (2, 4, 4, 1)
  """
  padded = jnp.pad(pictures, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
  starts = jax.random.randint(key, (len(pictures), 2), 0, 2 * most + 1)
  cut = lambda picture, start: jax.lax.dynamic_slice(picture, (start[0], start[1], 0), pictures.shape[1:])
  return jax.vmap(cut)(padded, starts)
