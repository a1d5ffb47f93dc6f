"""The recipe that made presets/mini: icons, autoencoder, words, denoiser."""
