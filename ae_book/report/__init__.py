"""The student report's numbers beside this book's."""
