"""Problem sets from files and datasets: field maps, reference answers, and no train problem that is an eval problem."""
