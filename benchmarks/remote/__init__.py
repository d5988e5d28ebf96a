"""Remote steps: a coordinator and a worker in two processes, beside the same client libraries used bare."""
