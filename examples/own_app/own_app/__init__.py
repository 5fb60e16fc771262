"""What own-app adds to fedf2dg."""
