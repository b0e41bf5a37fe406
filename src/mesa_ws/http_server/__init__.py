"""What operators reach over HTTP: dispatch, health."""
