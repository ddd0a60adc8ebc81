"""Synthetic DICOM: studies with their geometry, marked as synthetic, that carry nobody's header."""
