"""The book about ae_core: runs its chapters, shows what they measured, builds the site."""
