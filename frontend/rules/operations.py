"""The operations on matrices that laws are looked for between. Imports nothing, for `--help`."""

OPERATIONS = ("matmul", "add", "mul", "transpose", "concat", "relu")
UNARY = ("transpose", "relu")
