"""What lies over the whole console for a moment: help, and the question before an action."""
