"""Why a model says what it says: where it looks (heat maps), and which training images it finds alike."""
