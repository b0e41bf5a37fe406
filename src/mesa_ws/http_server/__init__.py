"""HTTP servers for operators: the dispatch API and health."""
