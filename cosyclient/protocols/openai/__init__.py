"""The OpenAI speech protocol and its dialects."""
