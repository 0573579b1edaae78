"""ONNX models as programs, and programs as ONNX models."""
