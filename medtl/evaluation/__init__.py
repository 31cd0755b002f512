"""Metrics, intervals, calibration and the evidence report; numpy only, no torch."""
