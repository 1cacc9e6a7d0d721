"""The process that answers: workers with the released code, a supervisor that never imports it, the prediction log.

Doors: `program.load_program` (functions ready to call), `supervisor.serve` and `background.start` (processes),
`predictions.read_predictions` and `predictions.find_prediction` (what was answered). Imports nothing by itself,
so that the supervisor stays small and a command that only reads the log loads no server.
"""
