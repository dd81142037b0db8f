"""Turn texts into audio: the engines, their voices and the encodings."""
