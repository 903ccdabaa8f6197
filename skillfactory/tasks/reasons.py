"""The grades that the generated tasks give: a check and a reason code each, made once. docs/tasks.md explains every code."""

from skillfactory.records import Check, Grade

EQUAL = Grade(Check.RIGHT, "equal")  # the value is the one asked for
FITTING_WORD = Grade(Check.RIGHT, "fitting_word")

EMPTY = Grade(Check.MISSING, "empty")

TOO_LONG = Grade(Check.WRONG, "too_long")  # longer than any right answer can be; not read
WRONG_VALUE = Grade(Check.WRONG, "wrong_value")

FOREIGN_SYMBOL = Grade(Check.WRONG, "foreign_symbol")
EQUALS_SIGN = Grade(Check.WRONG, "equals_sign")
SYNTAX = Grade(Check.WRONG, "syntax")
NUMBER_NOT_GIVEN = Grade(Check.WRONG, "number_not_given")
NUMBER_REUSED = Grade(Check.WRONG, "number_reused")
NUMBER_UNUSED = Grade(Check.WRONG, "number_unused")
DIVISION_BY_ZERO = Grade(Check.WRONG, "division_by_zero")

NOT_A_WORD = Grade(Check.WRONG, "not_a_word")
WRONG_LENGTH = Grade(Check.WRONG, "wrong_length")
LETTER_NOT_GIVEN = Grade(Check.WRONG, "letter_not_given")
LETTER_REUSED = Grade(Check.WRONG, "letter_reused")
NOT_IN_DICTIONARY = Grade(Check.WRONG, "not_in_dictionary")

NOT_AN_INTEGER = Grade(Check.WRONG, "not_an_integer")
