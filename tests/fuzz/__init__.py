"""A fuzzer of the splitter and the parser of delimited text; see ``__main__``."""
