"""What a chapter imports to argue: claims, figures, statistics."""
