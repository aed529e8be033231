"""Extensions that build the HTML."""
