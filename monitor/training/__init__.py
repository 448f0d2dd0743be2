"""How the classifier learns from what people said, and whether what it learnt may go live."""
