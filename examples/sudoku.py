"""Fill a 4 x 4 sudoku cell by cell: a task with deep trees, whose dead ends show late.

    fill a1 3 a4 2 b2 4 c3 1 d1 4 d4 3 grid a1 3 a4 2 b2 4 c3 1 d1 4 d4 3 a2 free 1 put a2 1 a3 free 4 put a3 4 b1 free
    2 put b1 2 b3 free 3 put b3 3 b4 free 1 put b4 1 c1 free 1 put c1 1 ...
    Answer: 1 4 2 3 1 1 ...

Rows are a to d, columns are 1 to 4. A cell without a free digit ends the attempt: "c1 free none", "Answer: none".
The first step repeats the grid. So the base learns to copy, which each return to an earlier state needs.
"""

from astro.tasks import Task

CELLS = [row + column for row in "abcd" for column in "1234"]


def box(cell):
    """The 2 x 2 box of a cell."""
    return cell[0] in "ab", cell[1] in "12"


PEERS = {
    cell: [o for o in CELLS if o != cell and (o[0] == cell[0] or o[1] == cell[1] or box(o) == box(cell))]
    for cell in CELLS
}
"""The cells that share a row, a column or a box with a cell."""

MAX_TRIES = 2000
"""Grids that are drawn for one problem."""


def free(grid, cell):
    """The digits that are left for a cell. grid: cell -> digit."""
    taken = {grid[peer] for peer in PEERS[cell] if peer in grid}
    return [digit for digit in "1234" if digit not in taken]


def open_cells(grid):
    """The cells to fill, in order."""
    return [cell for cell in CELLS if cell not in grid]


def chance(grid):
    """The probability that free digits drawn at random fill the grid."""
    if not (left := open_cells(grid)):
        return 1.0
    choices = free(grid, left[0])
    return sum(chance({**grid, left[0]: digit}) for digit in choices) / max(1, len(choices))


def play(grid, random):
    """Fill `grid` with free digits at random, to the end or to a cell without one. Returns (cell, choices, digit) per cell."""
    moves = []
    for cell in open_cells(grid):
        if not (choices := free(grid, cell)):
            return [*moves, (cell, choices, None)]
        grid[cell] = random.choice(choices)
        moves.append((cell, choices, grid[cell]))
    return moves


def given(question):
    """The grid of a question."""
    words = question.split()[1:]
    return dict(zip(words[::2], words[1::2], strict=True))


def copied(question):
    """The first step."""
    return question.replace("fill", "grid")


class Sudoku(Task):
    """Fill the grid, so that no row, column or box holds a digit twice."""

    defaults = {"chance": 0.25}

    def problem(self, random, level):
        """`level` cells are open, and random play succeeds at most with probability `chance`."""
        for _ in range(MAX_TRIES):
            play(whole := {}, random)
            grid = {cell: whole[cell] for cell in sorted(random.sample(CELLS, 16 - level)) if cell in whole}
            if len(whole) == 16 and chance(grid) <= self.options["chance"]:
                return {"question": "fill " + " ".join(f"{c} {d}" for c, d in grid.items()), "gold": "a full grid"}
        raise ValueError(f"no grid with {level} open cells is as hard as chance {self.options['chance']}; take 8 to 12")

    def score(self, problem, answer):
        """Each open cell gets a digit that is free."""
        if answer in (problem.gold, "none"):
            return answer == problem.gold
        grid, digits = given(problem.question), answer.split()
        if len(digits) != len(cells := open_cells(grid)):
            return False
        for cell, digit in zip(cells, digits, strict=True):
            if digit not in free(grid, cell):
                return False
            grid[cell] = digit
        return True

    def solution(self, random, problem):
        """Random play."""
        moves = play(given(problem.question), random)
        steps = [copied(problem.question)]
        steps += [f"{cell} free {' '.join(choices)} put {cell} {digit}" for cell, choices, digit in moves if digit]
        if moves[-1][2] is None:
            return [*steps, f"{moves[-1][0]} free none", "Answer: none"]
        return [*steps, "Answer: " + " ".join(digit for _, _, digit in moves)]

    def valid(self, problem, steps):
        """First the grid; then the next open cell, all its free digits and no other, and one of them is taken."""
        if len(steps) == 1:
            return steps[0] == copied(problem.question)
        grid = given(problem.question)
        for words in map(str.split, steps[1:-1]):
            if "put" in words:
                grid[words[0]] = words[-1]
        if " free " not in steps[-1]:
            return True
        cell, *_ = [*open_cells(grid), "no cell"]
        choices = free(grid, cell) if cell in PEERS else []
        text = f"{cell} free {' '.join(choices) or 'none'}"
        return steps[-1] in [f"{text} put {cell} {digit}" for digit in choices] or (not choices and steps[-1] == text)
