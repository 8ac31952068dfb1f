"""Place the rest of n queens, row by row: a task with deep trees, whose dead ends show late.

    place 9 queens row 3 at 2 row 7 at 9 row 8 at 4
    row 1 free 1 5 6 8 take 5
    row 2 free 1 7 8 take 8
    row 4 free none
    Answer: none

The last line gives the columns of the open rows, or "none" where a row has no free column left.
"""

from astro.tasks import Task


def free(placed, row, size):
    """Columns of a row that no queen attacks. placed: row -> column."""
    return [
        column
        for column in range(1, size + 1)
        if all(column != other and abs(column - other) != abs(row - at) for at, other in placed.items())
    ]


def solvable(placed, open_rows, size):
    """Can all open rows be filled?"""
    if not open_rows:
        return True
    row, *others = open_rows
    return any(solvable({**placed, row: column}, others, size) for column in free(placed, row, size))


def given(question):
    """(size, row -> column) of a question."""
    words = question.split()
    return int(words[1]), {int(words[i + 1]): int(words[i + 3]) for i in range(3, len(words), 4)}


class Queens(Task):
    """Place the rest of n queens so that none attacks another."""

    defaults = {"size": 9}

    def problem(self, random, level):
        """`level` rows are open."""
        size = self.options["size"]
        while True:
            placed = {}
            for row in sorted(random.sample(range(1, size + 1), size - level)):
                columns = free(placed, row, size)
                if not columns:
                    break
                placed[row] = random.choice(columns)
            else:
                if solvable(placed, [row for row in range(1, size + 1) if row not in placed], size):
                    queens = " ".join(f"row {row} at {column}" for row, column in placed.items())
                    return {"question": f"place {size} queens {queens}", "gold": "every queen is safe"}

    def score(self, problem, answer):
        """Each open row gets one column, and no queen attacks another."""
        if answer in (problem.gold, "none"):
            return answer == problem.gold
        size, placed = given(problem.question)
        open_rows = [row for row in range(1, size + 1) if row not in placed]
        for row, column in zip(open_rows, map(int, answer.split()), strict=True):
            if column not in free(placed, row, size):
                return False
            placed[row] = column
        return True

    def solution(self, random, problem):
        """A free column at random in each row, to the end or to a row without one."""
        size, placed = given(problem.question)
        steps, columns = [], []
        for row in range(1, size + 1):
            if row in placed:
                continue
            choices = free(placed, row, size)
            if not choices:
                return [*steps, f"row {row} free none", "Answer: none"]
            placed[row] = random.choice(choices)
            columns.append(placed[row])
            steps.append(f"row {row} free {' '.join(map(str, choices))} take {placed[row]}")
        return [*steps, f"Answer: {' '.join(map(str, columns))}"]

    def valid(self, problem, steps):
        """The next open row, all its free columns and no other, and one of them is taken."""
        size, placed = given(problem.question)
        for words in map(str.split, steps[:-1]):
            if "take" in words:
                placed[int(words[1])] = int(words[-1])
        if not steps[-1].startswith("row "):
            return True
        row = next((row for row in range(1, size + 1) if row not in placed), 0)
        columns = free(placed, row, size)
        text = f"row {row} free {' '.join(map(str, columns)) or 'none'}"
        return steps[-1] in [f"{text} take {column}" for column in columns] or (not columns and steps[-1] == text)
