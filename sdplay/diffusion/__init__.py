"""Pure tensor functions of diffusion training: noise, targets, weights, loss."""
