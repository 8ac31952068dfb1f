"""Mathematics: problems in words and LaTeX, steps as paragraphs, a boxed answer graded by `astro.grading`."""
