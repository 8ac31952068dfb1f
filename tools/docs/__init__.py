"""Generated parts of the documents: pictures, reference pages, result tables and the tutorial's output.

python -m tools.docs              write all of it; `make docs` does so, and builds the site
python -m tools.docs --check      write nothing; list what is out of date, exit code 1
python -m tools.docs.record_run      record the tutorial's problem again, in a checkout with a finished default run
"""
