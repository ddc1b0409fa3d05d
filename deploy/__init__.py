"""What runs Thorn, and what Thorn runs against. Not part of the package that users install."""
