"""Metrics: functions of predictions and truth."""
