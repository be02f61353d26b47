"""What train, validation and test share although they should not."""
