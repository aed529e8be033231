"""The HTML: built, checked, printed, opened in Colab."""
