"""A task of your own in one file: add numbers from left to right. See docs/tasks.md."""

from astro.tasks import Task


class Sums(Task):
    """Add numbers, two at a time."""

    defaults = {"largest": 50}

    def problem(self, random, level):
        """One more number for each level."""
        numbers = [random.randint(1, self.options["largest"]) for _ in range(level + 1)]
        return {"question": "add " + " ".join(map(str, numbers)), "gold": str(sum(numbers))}

    def score(self, problem, answer):
        """Right or not."""
        return int(answer) == int(problem.gold)

    def solution(self, random, problem):
        """Step by step, with a slip now and then."""
        total, *others = map(int, problem.question.split()[1:])
        steps = []
        for number in others:
            result = total + number + random.choice([0, 0, 0, 0, 0, 0, -1, 1])
            steps.append(f"{total} + {number} = {result}")
            total = result
        return [*steps, f"Answer: {total}"]

    def valid(self, problem, steps):
        """Is the last addition right?"""
        if "=" not in steps[-1]:
            return True
        added, result = steps[-1].split("=")
        return sum(map(int, added.split("+"))) == int(result)
