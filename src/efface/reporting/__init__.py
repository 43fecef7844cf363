"""Results as images and pages."""
