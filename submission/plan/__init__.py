"""What both frameworks share: options, blocking, ownership, refresh schedule and a NumPy reference.

Nothing here imports torch or JAX, and only the references need NumPy. Read `reference` first: it is
the algorithm, written for one block at a time.

- `options`: every hyperparameter that is a plain value, validated.
- `blocking`: a parameter becomes a matrix, the matrix blocks, equal blocks a stack.
- `ownership`: which rank owns which blocks.
- `refresh`: which factors are refreshed at which step.
- `presets`: options of proven points.
- `solvers`: which solver takes a root or a basis, and when its result is trusted.
- `reference`: Shampoo, SOAP and KL-Shampoo in float64, the oracle of the tests.
- `reference_blocks`: its cut of parameters into blocks.
- `minimax`: polynomials by which matrix products alone take inverse roots.
- `reference_roots`: those steps for one matrix.
"""
