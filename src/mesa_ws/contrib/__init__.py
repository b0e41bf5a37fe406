"""Mesa in web frameworks and task queues. Each module needs its framework, and is imported by itself."""
