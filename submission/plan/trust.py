"""When a decomposition of a factor is trusted; both frameworks judge alike."""

# From which damping on iterations to A^(-1/p) with an even p may take products in TF32. Their
# residual then stays below 0.03; at a tenth of it, it comes to 0.1 on full spectra, where a root is
# not trusted, and so it does with an odd p.
TF32_DAMPING = 1e-5

# Relative. A backward-stable solver errs by the rounding of the dtype; this far off, it failed.
MAX_RESIDUAL = 1e-2
# Of V^T V - I, entrywise, by the bits of a number. Solvers in full precision err by 1e-6 in float32
# and 1e-14 in float64; products in TF32, where a user allows them, by up to 5e-3.
MAX_NON_ORTHONORMALITY = {32: 1e-2, 64: 1e-10}
# Vectors that a decomposition is checked on.
PROBES = 4
