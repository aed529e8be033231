"""The student report's figures beside this book's."""
