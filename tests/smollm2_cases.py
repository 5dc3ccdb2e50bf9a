"""What SmolLM2 is asked in recordings and tests: prompts of many kinds, and a conversation."""

LONG = (
    "The lighthouse keeper had written in the same book every evening for thirty-one years. He noted the wind, the "
    "height of the waves, the ships that passed and the hour at which each of them was seen. On some days nothing "
    "passed at all, and he wrote that too. His daughter, who came up the stairs with his supper, liked to read the "
    "old pages: the winter of the great ice, the whale that lay on the rocks for a week, the night when a small boat "
    "with a torn sail came in from the dark and three men slept on the kitchen floor. She once asked him why he wrote "
    "it all down, since nobody would ever ask to see it. He thought about this for a while, looked at the lamp, and "
    "then he closed the book. A light is no use, he said, if it is only lit on the nights when somebody is watching. "
    "She did not understand him then. Many years later, when the lamp had been replaced by a machine and the tower "
    "was sold, she opened the last of the books and found that the final page"
)
PROMPTS = [
    "Once upon a time",
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "SELECT name, COUNT(*) FROM",
    "1, 2, 3, 5, 8, 13,",
    "Q: What is 12 times 12?\nA:",
    "Le café est fermé, mais l'été",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen",
    "東京は日本の",
    LONG,
]
CHAT = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]
