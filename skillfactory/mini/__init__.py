"""The embedded base model: its texts, its tokenizer, the recipe that trains it, and its weights."""
