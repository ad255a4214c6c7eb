"""What Flower runs: the apps, the task contract, aggregation and privacy."""
