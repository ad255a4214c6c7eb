"""Provisioning in the console: an operation's stream as a tree, what a plan would change, and the operation that is at work."""
