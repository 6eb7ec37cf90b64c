# FM-KT of a classifier in configs with the evaluator StepAccuracy.
_base_ = '../../_base_/fmkt_logits.py'
distiller = dict(report_steps=(1, 2, 4, 8))  # accuracy at these K, in one pass
