"""What a server can ask its clients between training and after it: one file a question."""
