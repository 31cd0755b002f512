"""A chest made of formulas and the X-rays through it: what `medtl.data.samples` draws its radiographs with.

Coordinates are the patient's, in mm: x to the patient's left, y to the front, z up; the origin lies in the middle of
the chest, below the branching of the trachea.
"""
