"""Chaos: whole jobs under faults that a seed chooses, judged from the files alone.

plans     pure: seed -> workload, cluster, settings, faults with their times
workload  pure: which items there are, which of them are bad, and which rows are right
score     the entry script of every job
driver    the program that submits, or resumes, the step run
scene     the processes of one run: driver, scheduler, nannies, workers, and where they are found
faults    one function a fault
watch     when processes died, as exactly as the machine allows
jobs      plays one plan in a folder
remains   what a run has left on the machine
evidence  what lies in the folder afterwards, as values
oracle    pure over that: the rules
"""
