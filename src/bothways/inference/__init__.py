"""What a trained model does: token ids in, and ids, scores or vectors out."""
