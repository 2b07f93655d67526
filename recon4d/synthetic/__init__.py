"""Truth made by us: a scene with exact answers, and corruptions that imitate a depth model."""
