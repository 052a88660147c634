"""Studies of the method: grids of trainings and evaluations, and tables beside published figures."""
